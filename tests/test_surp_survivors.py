"""SuRP on a pruned network: thresholds and indices are those of the survivors, as in the official iterative trainer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_surp import MODES, Arrays, Mode, bits, decoded, laplace, parts

from benchmarks.errors import BitstreamError
from methods.surp import CODECS, rounds, sequential, source, survivors
from methods.surp.visiting import orders, smallest_prime

ALPHA = 8.0


def pruned(n: int, share: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """Laplacian weights (n,) of which the smallest `share` are zero."""
    weights = laplace(n, seed)
    weights[np.argsort(np.abs(weights))[: round(share * n)]] = 0
    return weights


def official(u: npt.NDArray[np.float64], non_zeros: int, seed: int) -> npt.NDArray[np.float64]:
    """û of the published loop on a pruned source: each step takes the exact mean over the entries that were not zero."""
    alive = np.flatnonzero(u)
    residual, u_hat, a = u.copy(), np.zeros(len(u)), ALPHA
    mu, prime, step = float(np.float32(u[alive].mean())), smallest_prime(len(alive)), 0
    while np.count_nonzero(u_hat) < non_zeros:
        candidates = np.flatnonzero(residual[alive] > a * mu)
        if not len(candidates):
            a *= 0.9
            continue
        (x,), (b,), _ = orders(seed, prime, 1, skip=step)
        chosen = alive[candidates[((candidates * x + b) % prime).argmin()]]
        u_hat[chosen] += a * mu
        residual[chosen] -= a * mu
        assert mu == pytest.approx(residual[alive].sum() / len(alive) + a * mu / len(alive), rel=1e-6)
        mu *= 1 - a / len(alive)
        step += 1
    return u_hat


def in_rounds(u: npt.NDArray[np.float64], non_zeros: int) -> npt.NDArray[np.float64]:
    """û after whole rounds with the exact mean over survivors, until at least `non_zeros` are refined."""
    alive = u > 0
    residual, a = u.copy(), ALPHA
    while np.count_nonzero(residual < u) < non_zeros:
        threshold = a * residual[alive].mean()
        while (above := residual > threshold).any():
            residual[above] -= threshold
        a *= 0.95
    return u - residual


def test_sequential_pass_takes_the_mean_over_survivors() -> None:
    u = np.abs(pruned(1200, 0.9).astype(np.float64))
    made = sequential.select(u, (0.95,), 7, ALPHA)
    u_hat = np.zeros(len(u))
    u_hat[made.survivors] = sequential.replay(120, made.mu, made.alpha, made.decay, made.stages, made.coordinates)
    assert np.array_equal(u_hat, official(u, 60, 7))


def test_rounds_take_the_mean_over_survivors() -> None:
    u = np.abs(pruned(1200, 0.9).astype(np.float64))
    made = rounds.select(u, (0.95,), ALPHA)
    whole = rounds.part(
        ["t"], source.Source(u, u < 0, np.ones(1, np.float32)), [1200], made, rounds.Mark(len(made.rounds))
    )
    _, (array,) = decoded(whole, [(1200,)])
    np.testing.assert_allclose(array, in_rounds(u, 60), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_zeros_do_not_change_what_a_pass_does_to_the_others(mode: Mode) -> None:
    """A pruned source is refined like its survivors alone: the same distortion, whatever the number of zeros."""
    alone = laplace(3000)
    among = np.zeros(30_000, np.float32)
    places = np.random.default_rng(1).permutation(30_000)[:3000]
    places.sort()
    among[places] = alone
    (one,), (other,) = parts([alone], mode, (0.5,), ALPHA), parts([among], mode, (0.95,), ALPHA)
    _, (dense,) = decoded(one, [(3000,)])
    _, (sparse,) = decoded(other, [(30_000,)])
    assert np.array_equal(sparse[places], dense) and np.count_nonzero(sparse) == np.count_nonzero(dense) == 1500


def test_an_index_is_one_of_the_survivors() -> None:
    """Besides the mask of at most n h(1/10) bits, a tenfold number of zeros costs nothing."""
    alone, among = laplace(3000), np.zeros(30_000, np.float32)
    among[::10] = alone
    (one,), (other,) = (parts([x], "sequential", (0.0,), ALPHA, floor=0.02) for x in (alone, among))
    mask = 30_000 * 0.469
    assert bits(decoded(other, [(30_000,)])[0]) < bits(decoded(one, [(3000,)])[0]) + 1.02 * mask


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_every_pruned_network_round_trips(mode: Mode, sizes: list[int], share: float, seed: int) -> None:
    """Tensors with few, only or no survivors: signs and support are kept, zeros stay zero, weights never grow."""
    rng = np.random.default_rng(seed)
    tensors: Arrays = [rng.laplace(size=n).astype(np.float32) * (rng.random(n) >= share) for n in sizes]
    for part in parts(tensors, mode, (0.5, 0.0)):
        _, back = decoded(part, [t.shape for t in tensors])
        for array, tensor in zip(back, tensors, strict=True):
            assert (np.abs(array) <= np.abs(tensor)).all() and (array * tensor >= 0).all()
            assert (tensor != 0)[array != 0].all()


def test_damaged_counts_and_masks_are_refused() -> None:
    coded, _ = decoded(parts([pruned(400, 0.9)], "rounds", (0.95,))[0], [(400,)])
    streams = [b for _, b in coded.streams]
    for survivors_said in (0, -1, 5, 401, 2**70, 1.5, "40", None):
        with pytest.raises(BitstreamError):
            CODECS["rounds"].decode({**coded.meta, "survivors": survivors_said}, streams, [(400,)])
    coded, _ = decoded(parts([pruned(400, 0.9)], "sequential", (0.95,))[0], [(400,)])
    *others, mask, norms = (b for _, b in coded.streams)
    for masks in ([mask, mask], [b""], [mask + b"\0"], [mask[:2]], list(survivors.pack(np.arange(3), [400])[1])):
        with pytest.raises(BitstreamError):
            CODECS["sequential"].decode(coded.meta, [*others, *masks, norms], [(400,)])


def test_a_network_without_survivors_is_zero() -> None:
    for mode in MODES:
        _, (array,) = decoded(parts([np.zeros(10, np.float32)], mode, (0.5,))[0], [(10,)])
        assert not array.any()
