"""SuRP's files and curves: every prefix decodes exactly, damage is an error, retraining keeps what was pruned."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import methods
from benchmarks import bitstream, networks
from benchmarks.errors import BitstreamError, MethodError
from benchmarks.papers import reported
from methods import surp
from methods.interface import Budget, Coded, Json, Part
from methods.surp import rounds, sequential, source

torch.set_num_threads(1)
Arrays = list[npt.NDArray[Any]]
Mode = Literal["sequential", "rounds"]
MODES: tuple[Mode, ...] = ("sequential", "rounds")


def parts(
    tensors: Arrays, mode: Mode, sparsities: Sequence[float], alpha: float = 10.0, floor: float = 2**-12
) -> list[Part]:
    """One part for each sparsity reached, highest sparsity first."""
    made, names = source.normalise(tensors), [f"t{i}" for i in range(len(tensors))]
    sizes = [t.size for t in tensors]
    if mode == "sequential":
        walk = sequential.select(made.u, sparsities, 7, alpha, 0.9, floor)
        return [sequential.part(names, made, sizes, walk, steps) for steps in walk.marks]
    passed = rounds.select(made.u, sparsities, alpha, 0.95, floor)
    return [rounds.part(names, made, sizes, passed, mark) for mark in passed.marks]


def decoded(part: Part, shapes: list[tuple[int, ...]]) -> tuple[Coded, Arrays]:
    codec = surp.CODECS[part.codec.removeprefix("surp.")]
    coded = codec.encode(part)
    return coded, codec.decode(coded.meta, [stream for _, stream in coded.streams], shapes)


def bits(coded: Coded, role: str | None = None) -> int:
    return 8 * sum(len(stream) for r, stream in coded.streams if role in (None, r))


def laplace(n: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).laplace(size=n).astype(np.float32)


def network_like(seed: int) -> Arrays:
    """A few tensors of unlike size and scale, one of them a single value, one all zero."""
    shapes = [(1,), (7,), (12,), (8, 3, 3, 3), (30, 20), (4,)]
    made = [np.random.default_rng(seed + i).laplace(size=s).astype(np.float32) * 3**i for i, s in enumerate(shapes)]
    return [*made[:-1], np.zeros(4, np.float32)]


@pytest.mark.parametrize("mode", MODES)
def test_every_prefix_decodes_to_its_snapshot(mode: Mode) -> None:
    tensors = network_like(0)
    shapes, sparsities = [t.shape for t in tensors], (0.97, 0.9, 0.75, 0.5, 0.3, 0.1)
    made = source.normalise(tensors)
    previous, supports = np.zeros(len(made.u)), [np.zeros(len(made.u), bool)]
    for part, sparsity in zip(parts(tensors, mode, sparsities), sparsities, strict=True):
        _, arrays = decoded(part, shapes)
        flat = np.concatenate([np.abs(a).ravel() for a in arrays])
        assert np.count_nonzero(flat) == math.ceil((1 - sparsity) * flat.size - 1e-9)
        for array, tensor in zip(arrays, tensors, strict=True):
            assert (np.abs(array) <= np.abs(tensor)).all() and (array * tensor >= 0).all()
        assert (supports[-1] <= (flat > 0)).all()  # nested, and ever closer
        supports.append(flat > 0)
        if mode == "sequential":
            assert (flat >= previous).all()
        previous = flat


def test_any_number_of_steps_is_a_file() -> None:
    tensors = network_like(1)
    made, shapes, sizes = source.normalise(tensors), [t.shape for t in tensors], [t.size for t in tensors]
    walk = sequential.select(made.u, (0.2,), 7, 10.0)
    for steps in (0, 1, 2, 31, 32, 33, *range(50, len(walk.positions), 97), len(walk.positions)):
        _, arrays = decoded(sequential.part(list("abcdef"), made, sizes, walk, steps), shapes)
        u_hat, n = np.zeros(len(made.u)), len(walk.survivors)
        u_hat[walk.survivors] = sequential.replay(
            n, walk.mu, walk.alpha, walk.decay, walk.stages, walk.coordinates[:steps]
        )
        touched = np.flatnonzero(u_hat)
        for array, wanted in zip(
            arrays, source.weights(u_hat, touched, made.negative[touched], made.norms, shapes), strict=True
        ):
            assert np.array_equal(array, wanted)


def test_any_number_of_rounds_is_a_file() -> None:
    tensors = network_like(1)
    made, shapes, sizes = source.normalise(tensors), [t.shape for t in tensors], [t.size for t in tensors]
    passed = rounds.select(made.u, (0.05,), 10.0)
    u_hat, mu, a = np.zeros(len(made.u)), passed.mu, passed.alpha
    for count in range(len(passed.rounds)):
        _, arrays = decoded(rounds.part(list("abcdef"), made, sizes, passed, rounds.Mark(count)), shapes)
        touched = np.flatnonzero(u_hat)
        for array, wanted in zip(
            arrays, source.weights(u_hat, touched, made.negative[touched], made.norms, shapes), strict=True
        ):
            assert np.array_equal(array, wanted)
        threshold = a * mu
        while (above := made.u - u_hat > threshold).any():  # residuals as differences: equal but for rounding
            u_hat[above] += threshold
        mu -= threshold * int(passed.rounds[count].times.sum()) / passed.survivors
        a *= passed.decay
        assert abs(mu - (made.u - u_hat)[made.u > 0].mean()) < 1e-8  # its start is rounded to fp32


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12), min_size=1, max_size=5),
    st.sampled_from(MODES),
    st.floats(0.05, 40),
    st.lists(st.floats(0, 1), min_size=1, max_size=4, unique=True),
)
def test_whatever_the_tensors(values: list[list[float]], mode: Mode, alpha: float, sparsities: list[float]) -> None:
    tensors = [np.array(v, np.float32) for v in values]
    for part in parts(tensors, mode, sorted(sparsities, reverse=True), alpha):
        _, arrays = decoded(part, [t.shape for t in tensors])
        for array, tensor in zip(arrays, tensors, strict=True):
            assert (np.abs(array) <= np.abs(tensor)).all() and (array * tensor >= 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_scaling_a_tensor_scales_its_reproduction(mode: Mode) -> None:
    tensors = network_like(2)
    shapes, factors = [t.shape for t in tensors], (4.0, 0.5, 1.0, 2.0**-20, 8.0, 1.0)
    scaled: Arrays = [t * np.float32(f) for t, f in zip(tensors, factors, strict=True)]
    for one, other in zip(parts(tensors, mode, (0.9, 0.4)), parts(scaled, mode, (0.9, 0.4)), strict=True):
        (coded, arrays), (coded_too, arrays_too) = decoded(one, shapes), decoded(other, shapes)
        assert coded.streams[:-1] == coded_too.streams[:-1]  # all but the norms
        for array, array_too, factor in zip(arrays, arrays_too, factors, strict=True):
            assert np.array_equal(array * np.float32(factor), array_too)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "tensors",
    [
        [np.zeros(5)],
        [np.ones(1)],
        [np.full(9, -0.25)],
        [np.zeros((2, 2)), np.array([3.0, -1e-30])],
        [np.array([1e-45])],
    ],
)
def test_degenerate_tensors(mode: Mode, tensors: Arrays) -> None:
    tensors = [t.astype(np.float32) for t in tensors]
    for part in parts(tensors, mode, (0.5, 0.0)):
        _, arrays = decoded(part, [t.shape for t in tensors])
    for array, tensor in zip(arrays, tensors, strict=True):
        assert (np.abs(array) <= np.abs(tensor)).all() and (array * tensor >= 0).all()
        assert ((array != 0) == (np.abs(tensor) > 1e-9 * np.abs(tensor).max())).all()  # dust stays below the floor


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers(bad: float) -> None:
    with pytest.raises(MethodError, match="tensor 1 "):
        source.normalise([np.ones(3), np.array([1.0, bad])])


def damaged(coded: Coded, data: st.DataObject) -> tuple[Mapping[str, Any], list[bytes]]:
    meta, streams = dict(coded.meta), [bytearray(stream) for _, stream in coded.streams]
    which = data.draw(st.integers(0, len(streams)))
    if which == len(streams):
        name = data.draw(st.sampled_from(sorted(meta)))
        meta[name] = data.draw(st.sampled_from([0, -1, 1, 2**31, 2**62, 0.5, 1e-300, 1e300, math.nan, math.inf]))
    else:
        stream = streams[which]
        kind = data.draw(st.sampled_from(["cut", "flip", "grow", "random"]))
        if kind == "cut":
            del stream[data.draw(st.integers(0, max(len(stream) - 1, 0))) :]
        elif kind == "grow":
            stream += data.draw(st.binary(min_size=1, max_size=9))
        elif kind == "random":
            stream[:] = data.draw(st.binary(max_size=len(stream) + 4))
        elif stream:
            stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    return meta, [bytes(stream) for stream in streams]


@pytest.mark.parametrize("mode", MODES)
def test_damage_is_an_error_or_another_network(mode: Mode) -> None:
    tensors = network_like(3)
    shapes = [t.shape for t in tensors]
    coded = [decoded(part, shapes)[0] for part in parts(tensors, mode, (0.95, 0.6, 0.1))]

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from(coded), st.data())
    def check(whole: Coded, data: st.DataObject) -> None:
        meta, streams = damaged(whole, data)
        try:
            arrays = surp.CODECS[mode].decode(meta, streams, shapes)
        except BitstreamError as error:
            assert str(error).endswith("damaged")
        else:
            assert [a.shape for a in arrays] == shapes and all(np.isfinite(a).all() for a in arrays)

    check()


class FakeTask(SimpleNamespace):
    name, network, architecture = "fake", "fake", "digits_cnn"
    arguments: Mapping[str, Json] = MappingProxyType({"width": 4})

    def reference(self) -> nn.Module:
        torch.manual_seed(0)
        return networks.build(self.architecture, self.arguments).eval()


class FakeRun(SimpleNamespace):
    seed, device = 0, torch.device("cpu")

    def generator(self, *names: str | int) -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def progress(self, message: str) -> None:
        assert message


@pytest.mark.parametrize("mode", MODES)
def test_post_training_curve(mode: Mode) -> None:
    config, task, run = surp.Config(mode=mode), FakeTask(), FakeRun(budget=Budget("post-training", 0))
    assert surp.unsupported(task, config) is None
    reference, sizes = dict(task.reference().named_parameters()), []
    for compressed in surp.compress(task, config, run):
        file = bitstream.encode(compressed)
        for name, tensor in bitstream.decode(file).named_parameters():
            assert (tensor.abs() <= reference[name].abs()).all()
        assert set(bitstream.bytes_by_role(file)) == {"indices", "weights", "norm_bias", "header"}
        sizes.append((len(file), compressed.point["sparsity"]))
    assert [s for _, s in sizes] == list(config.sparsities)
    assert sizes == sorted(sizes, reverse=True, key=lambda pair: pair[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("budget", [Budget("short", 5), Budget("paper", None)])
def test_rounds_of_retraining(mode: Mode, budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    config = surp.Config(mode=mode)
    monkeypatch.setattr(surp, "PAPER_SPARSITIES", (0.5, 0.8))
    calls: list[tuple[Any, str, int]] = []

    def fake_fit(network: nn.Module, task: Any, run: Any, recipe: Any, stage: str, masks: Mapping[str, Tensor]) -> None:
        torch.manual_seed(len(calls))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
                if name in masks:
                    assert ((parameter != 0) | ~masks[name]).all() and parameter.ndim > 1
                    parameter.mul_(masks[name])
        pruned = sum(int((~mask).sum()) for mask in masks.values())
        calls.append((recipe, stage, pruned))
        trained.append({name: p.detach().clone() for name, p in network.named_parameters()})

    trained: list[dict[str, Tensor]] = []
    monkeypatch.setattr(surp, "fit", fake_fit)
    points = list(surp.compress(FakeTask(), config, FakeRun(budget=budget)))
    grid = config.short_sparsities if budget.name == "short" else (0.5, 0.8)
    assert [point.point["sparsity"] for point in points] == list(grid)
    assert len({stage for _, stage, _ in calls}) == len(calls) == len(grid)
    assert {recipe.epochs for recipe, _, _ in calls} == {5 if budget.name == "short" else 20}
    assert all(a < b for (_, _, a), (_, _, b) in itertools.pairwise(calls))
    for point, wanted in zip(points, trained, strict=True):
        coded = dict(bitstream.decode(bitstream.encode(point)).named_parameters())
        error = sum(float((coded[n] - w).abs().sum() / w.norm()) for n, w in wanted.items() if w.norm())
        assert error <= 1.01 * surp.RESIDUAL * sum(float(w.abs().sum() / w.norm()) for w in wanted.values() if w.norm())
        assert all((coded[n][w == 0] == 0).all() for n, w in wanted.items())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"mode": "both"}, "Invalid enum value 'both' - at `$.mode`"),
        ({"normalise": "l0"}, "Invalid enum value 'l0' - at `$.normalise`"),
        ({"alpha": 0.0}, "> 0.0 - at `$.alpha`"),
        ({"alpha": 1001.0}, "<= 1000.0 - at `$.alpha`"),
        ({"alpha": math.nan}, "at `$.alpha`"),
        ({"sparsities": (0.9, 0.5)}, "sparsities has to rise, from the largest file to the smallest"),
        ({"sparsities": ()}, "sparsities has to rise, from the largest file to the smallest, with at least one value"),
        ({"sparsities": (0.5, 1.0)}, "< 1.0 - at `$.sparsities[1]`"),
        ({"sparsities": (0.0, 0.5)}, "> 0.0 - at `$.sparsities[0]`"),
        ({"sparsities": (0.5, math.nan)}, "at `$.sparsities[1]`"),
        ({"short_sparsities": (0.5, 0.5)}, "short_sparsities has to rise"),
        ({"short_sparsities": (0.5, 1.0)}, "< 1.0 - at `$.short_sparsities[1]`"),
    ],
)
def test_impossible_settings_are_refused_in_a_sentence(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(complaint)):
        msgspec.convert(changes, surp.Config)


def test_the_constants_are_what_its_files_allow() -> None:
    """A decoder knows decays below 1; no residual is smaller than the floor at which a pass ends."""
    assert all(0.5 <= decay <= 0.99 for decay in (surp.REFRESH_DECAY, surp.ROUND_DECAY))
    assert surp.FLOOR <= surp.RESIDUAL < 1
    grid = surp.PAPER_SPARSITIES
    assert list(grid) == sorted(set(grid)) and grid[0] > 0 and grid[-1] < 1


def test_it_is_found_by_its_key_and_reports_no_invented_number() -> None:
    method = methods.get("surp")
    assert method.CARD.key == "surp" and method.CARD.fidelity == "reconstruction"
    assert all(row.comparable and row.source for row in reported.of("surp"))
