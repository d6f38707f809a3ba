"""SuRP on synthetic sources: the identities and bounds of its theory, and the fast pass against the naive loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from test_surp import MODES, Arrays, Mode, bits, decoded, laplace, parts

from methods.surp import rounds, sequential, source
from methods.surp.visiting import orders, smallest_prime


@dataclass
class Trace:
    """What the published loop does, one O(n) step at a time."""

    positions: list[int]
    coordinates: list[int]
    thresholds: list[float]
    residuals: npt.NDArray[np.float64]
    u_hat: npt.NDArray[np.float64]
    mu: float


def naive(u: npt.NDArray[np.float64], non_zeros: int, seed: int, alpha: float) -> Trace:
    n, prime, a = len(u), smallest_prime(len(u)), alpha
    trace = Trace([], [], [], u.copy(), np.zeros(n), float(np.float32(u.mean())))
    while np.count_nonzero(trace.u_hat) < non_zeros:
        threshold = a * trace.mu
        candidates = np.flatnonzero(trace.residuals > threshold)
        if not len(candidates):
            a *= 0.9
            continue
        (x,), (b,), _ = orders(seed, prime, 1, skip=len(trace.positions))
        places = (candidates * x + b) % prime
        chosen = int(candidates[places.argmin()])
        trace.positions.append(int(places.min()))
        trace.coordinates.append(chosen)
        trace.thresholds.append(threshold)
        trace.u_hat[chosen] += threshold
        trace.residuals[chosen] -= threshold
        trace.mu *= 1 - a / n
    return trace


@pytest.mark.parametrize(
    ("n", "alpha", "sparsity"), [(1500, 6.0, 0.05), (1500, 1.2, 0.3), (40, 3.0, 0.2), (3, 2.0, 0.4)]
)
def test_fast_pass_is_the_naive_loop_and_keeps_its_identities(n: int, alpha: float, sparsity: float) -> None:
    u = np.abs(laplace(n).astype(np.float64))
    made = sequential.select(u, (sparsity,), 7, alpha)
    trace = naive(u, math.ceil((1 - sparsity) * n - 1e-9), 7, alpha)
    assert made.positions.tolist() == trace.positions
    assert made.coordinates.tolist() == trace.coordinates
    u_hat = sequential.replay(n, made.mu, made.alpha, made.decay, made.stages, made.coordinates)
    assert np.array_equal(u_hat, trace.u_hat)  # bit for bit: the same products and sums in the same order
    assert (u_hat >= 0).all() and (u_hat <= u * (1 + 1e-12)).all() and (trace.residuals >= 0).all()
    np.testing.assert_allclose(u_hat + trace.residuals, u, atol=1e-12)
    steps = np.array(trace.thresholds)
    assert (np.diff(steps) <= 0).all() and (steps > 0).all()
    assert np.isclose((u - u_hat).mean(), u.mean() - steps.sum() / n, atol=1e-12)  # D_t = D_0 - sum of T / n
    assert abs((trace.mu - trace.residuals.mean()) - (made.mu - u.mean())) < 1e-12  # mu is the mean, but for its fp32


def test_rounds_do_not_depend_on_the_order_of_coordinates() -> None:
    u = np.abs(laplace(500).astype(np.float64))
    shuffle = np.random.default_rng(0).permutation(500)
    one, other = rounds.select(u, (0.3,), 5.0), rounds.select(u[shuffle], (0.3,), 5.0)
    for a, b in zip(one.rounds, other.rounds, strict=True):
        assert a.coordinates.tolist() == sorted(shuffle[b.coordinates].tolist())


def test_number_of_first_candidates_is_poisson() -> None:
    n, draws = 20_000, 60
    beta = math.log(n)
    alpha = math.log(n / beta)
    counts = [int((u > alpha * u.mean()).sum()) for u in (np.abs(laplace(n, s)) for s in range(draws))]
    assert abs(np.mean(counts) - beta) < 4 * math.sqrt(beta / draws)


def test_slope_at_zero_rate() -> None:
    """The first steps lower the distortion by nearly 1/lambda a nat: ln(n/beta)/ln n plain, a/(a+1) with positions."""
    n, seeds = 100_000, 200
    beta = math.log(n)
    a = math.log(n / beta)
    u = np.random.default_rng(0).exponential(size=n)
    made = sequential.select(u, (1 - 12 / n,), 7, a)
    u_hat = sequential.replay(n, made.mu, a, 0.9, made.stages, made.coordinates)
    assert u_hat.sum() / len(made.positions) / math.log(n) == pytest.approx(a / math.log(n) * u.mean(), rel=0.05)
    candidates, prime = np.flatnonzero(u > a * u.mean()), smallest_prime(n)
    multipliers, offsets, _ = orders(3, prime, seeds)
    positions = ((np.outer(multipliers, candidates) + offsets[:, None]) % prime).min(axis=1)
    p = len(candidates) / n
    nats = -np.log(p) - positions.mean() * np.log1p(-p)
    assert a / nats == pytest.approx(a / (a + 1), rel=0.05)


@pytest.mark.parametrize("mode", MODES)
def test_known_figures_of_an_exponential_source(mode: Mode) -> None:
    """n and a of ResNet-20: rates and distortions as published theory and earlier measurements have them."""
    n = 272_474
    signed = np.random.default_rng(0).exponential(size=n) * np.random.default_rng(1).choice([-1, 1], n)
    tensors: Arrays = [signed.astype(np.float32)]
    for part, sparsity, limit in zip(parts(tensors, mode, (0.99, 0.9), 9.99), (0.99, 0.9), (0.95, 0.69), strict=True):
        coded, (array,) = decoded(part, [(n,)])
        distortion = float(np.abs(tensors[0] - array).sum() / np.abs(tensors[0]).sum())
        q = 1 - sparsity
        assert 1 - q * (1 - math.log(q)) - 0.005 < distortion <= limit  # above exact magnitude pruning, and near it
        assert bits(coded, "indices") / n < (0.125 if sparsity > 0.95 else 1.0)
        assert bits(coded) / n > -math.log2(distortion)  # the rate-distortion function


def test_rounds_are_the_better_coder_at_equal_distortion() -> None:
    tensors: Arrays = [laplace(100_000)]
    walk, passed = parts(tensors, "sequential", (0.9,), 9.0)[0], parts(tensors, "rounds", (0.9,), 9.0)[0]
    (slow, (a,)), (fast, (b,)) = decoded(walk, [(100_000,)]), decoded(passed, [(100_000,)])
    assert np.abs(tensors[0] - b).sum() <= np.abs(tensors[0] - a).sum()
    assert bits(fast) < 0.95 * bits(slow)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("ratio", "nats"), [(0.65, 0.553), (0.28, 1.579)])
def test_no_coder_beats_the_constrained_rate(mode: Mode, ratio: float, nats: float) -> None:
    """With |w_hat| <= |w| and equal signs, a Laplacian needs these rates (Blahut-Arimoto); less would be a bug."""
    n = 100_000
    (part,) = parts([laplace(n)], mode, (0.0,), 9.0, floor=ratio)
    coded, (array,) = decoded(part, [(n,)])
    distortion = np.abs(laplace(n) - array).sum() / np.abs(laplace(n)).sum()
    assert ratio * 0.8 < distortion < ratio * 1.001
    assert bits(coded) * math.log(2) / n > nats


def test_output_perturbation_is_bounded() -> None:
    rng = np.random.default_rng(0)
    for mode in MODES:
        for sparsity in (0.9, 0.5):
            layers: Arrays = [rng.laplace(size=s).astype(np.float32) for s in ((20, 12), (20, 20), (5, 20))]
            made, names = source.normalise(layers, "l1"), ["a", "b", "c"]
            if mode == "sequential":
                walk = sequential.select(made.u, (sparsity,), 1, 4.0)
                part = sequential.part(names, made, [x.size for x in layers], walk, walk.marks[0])
            else:
                passed = rounds.select(made.u, (sparsity,), 4.0)
                part = rounds.part(names, made, [x.size for x in layers], passed, passed.marks[0])
            _, coded = decoded(part, [x.shape for x in layers])
            x = rng.laplace(size=(12, 50))
            x /= np.abs(x).sum(axis=0)
            out = [layers[2] @ np.maximum(layers[1] @ np.maximum(layers[0] @ x, 0), 0) for layers in (layers, coded)]
            norms = [np.abs(w).sum() for w in layers]
            moved = sum(np.abs(w - v).sum() / s for w, v, s in zip(layers, coded, norms, strict=True))
            assert np.abs(out[0] - out[1]).sum(axis=0).max() <= math.prod(norms) * moved


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_optimal_test_channels(ratio: float) -> None:
    """V with its atom at zero plus independent noise is the source again: Exp(1) one-sided, Laplace(1) two-sided."""
    rng, n = np.random.default_rng(0), 200_000
    one_sided = rng.exponential(size=n) * (rng.random(n) > ratio) + ratio * rng.exponential(size=n)
    two_sided = rng.laplace(size=n) * (rng.random(n) > ratio**2) + rng.laplace(scale=ratio, size=n)
    for u in (one_sided, np.abs(two_sided)):
        assert u.mean() == pytest.approx(1, abs=0.02) and (u**2).mean() == pytest.approx(2, abs=0.08)
        empirical = np.arange(1, n + 1) / n
        assert np.abs(empirical - (1 - np.exp(-np.sort(u)))).max() < 1.95 / math.sqrt(n)
