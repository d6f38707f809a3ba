"""Tensor reordering: tours against brute force, the transform's algebra, layers, rates and the tables."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft
from test_every_method import MemoryRun

from benchmarks import bitstream, tasks
from benchmarks.bitstream import blueprint
from benchmarks.papers import accounting, reported
from benchmarks.training import SGD
from methods import tensor_reordering
from methods.families.generated import Generated
from methods.interface import Augmentation, Budget
from methods.tensor_reordering import _coefficients, _recipe
from methods.tensor_reordering.accounting import NETWORKS, _dense
from methods.tensor_reordering.layers import rates, weights
from methods.tensor_reordering.tour import tour
from methods.tensor_reordering.transform import Source, analysed, inverse_dct, kept_frequencies


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def exhaustive(columns: Any) -> list[int]:
    """The tour by its definition: all distances at each step, the first of equal ones."""
    points = columns.astype(np.float64)
    at = int(np.argmax(np.square(points).sum(0)))
    found, left = [at], np.ones(points.shape[1], bool)
    for _ in range(points.shape[1] - 1):
        left[at] = False
        distances = np.zeros(points.shape[1])
        for row in points:
            distances += (row - row[at]) ** 2
        at = int(np.argmin(np.where(left, distances, np.inf)))
        found.append(at)
    return found


@settings(max_examples=60, deadline=None)
@given(
    count=st.one_of(st.integers(1, 70), st.sampled_from([255, 256, 257, 600])),
    rows=st.integers(1, 9),
    levels=st.sampled_from([0, 1, 2, 5]),
    seed=st.integers(0, 99),
)
def test_the_tour_is_that_of_the_definition(count: int, rows: int, levels: int, seed: int) -> None:
    """With few levels, many columns are equal and many distances, too."""
    columns = normal(rows, count, seed=seed)
    columns = np.round(columns * levels) if levels else columns
    assert tour(columns).tolist() == exhaustive(columns)


@pytest.mark.parametrize("count", [600, 40_000])
def test_equal_columns_are_visited_one_after_the_other(count: int) -> None:
    values = normal(4, 3)
    which = np.random.default_rng(0).integers(0, 3, count)
    order = tour(values[:, which])
    if count < 1000:
        assert order.tolist() == exhaustive(values[:, which])
    assert np.flatnonzero(np.diff(which[order])).size == 2 and np.count_nonzero(np.diff(order) < 0) <= 2
    assert np.array_equal(tour(np.ones((2, count))), np.arange(count))


def test_each_step_is_to_a_nearest_column_that_is_visited_later() -> None:
    columns = normal(4, 200).astype(np.float64)
    order = tour(columns)
    points = columns[:, order]
    assert order[0] == np.argmax(np.square(columns).sum(0))
    for i in range(len(order) - 2):
        distances = np.square(points[:, i + 1 :] - points[:, i, None]).sum(0)
        assert distances[0] <= distances.min() * (1 + 1e-12)


def test_with_one_row_the_tour_sorts() -> None:
    values = normal(1, 999)
    ends = np.sort(values[0])
    expected = ends if abs(ends[0]) > abs(ends[-1]) else ends[::-1]
    assert np.array_equal(values[0, tour(values)], expected)


@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (16, 8, 1, 1), (24, 10), (8, 1)])
def test_all_coefficients_give_the_weight(groups: int, shape: tuple[int, ...]) -> None:
    weight = normal(*shape)
    found = analysed(weight, groups, tour(weight.reshape(groups, -1)))
    assert found.inverse is not None and np.array_equal(np.sort(found.inverse), np.arange(found.columns))
    assert np.abs(found.weight() - weight).max() < 1e-5
    assert np.abs(analysed(weight, groups, None).weight() - weight).max() < 1e-5


def test_the_error_is_the_energy_of_the_dropped_coefficients() -> None:
    weight = normal(16, 9, 3, 3)
    full = analysed(weight, 4, tour(weight.reshape(4, -1)))
    errors = []
    for kept in range(1, full.columns + 1, 17):
        low = full.lowest(kept)
        errors.append(float(np.square(low.weight() - weight).sum()))
        assert errors[-1] == pytest.approx(np.square(full.coefficients[:, kept:]).sum(), rel=1e-5)
    assert errors == sorted(errors, reverse=True)


ENERGY = {  # of Gaussian columns in the tour's order and as given, at N/2, N/4 and N/8 frequencies
    (4096, 2): ((0.998, 0.995, 0.990), (0.500, 0.257, 0.128)),
    (4096, 4): ((0.990, 0.973, 0.931), (0.492, 0.249, 0.117)),
    (4096, 8): ((0.954, 0.881, 0.752), (0.496, 0.247, 0.125)),
    (16384, 4): ((0.995, 0.987, 0.967), (0.497, 0.249, 0.126)),
    (16384, 8): ((0.969, 0.921, 0.830), (0.500, 0.248, 0.123)),
    (16384, 16): ((0.911, 0.785, 0.594), (0.500, 0.250, 0.124)),
}


@pytest.mark.parametrize(("count", "groups"), ENERGY)
def test_the_order_makes_even_noise_smooth(count: int, groups: int) -> None:
    """The values are then in the permutation: it has to be counted.

    The expected shares are of another draw; shares of columns as given differ by about 0.01 between draws.
    """
    values = np.random.default_rng(0).standard_normal((groups, count))
    for order, expected, apart in zip((tour(values), None), ENERGY[count, groups], (0.005, 0.015), strict=True):
        energy = np.square(analysed(values, groups, order).coefficients)
        shares = [energy[:, : count // ratio].sum() / energy.sum() for ratio in (2, 4, 8)]
        assert shares == pytest.approx(expected, abs=apart)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 15, 144, 577])
def test_the_trained_inverse_is_that_of_the_definition(count: int) -> None:
    coefficients = torch.from_numpy(normal(3, count).astype(np.float64))
    p, q = np.arange(count)[:, None], np.arange(count)[None]
    basis = np.cos(math.pi * (2 * p + 1) * q / (2 * count)) * np.where(q == 0, 1, math.sqrt(2)) / math.sqrt(count)
    assert inverse_dct(coefficients).numpy() == pytest.approx(coefficients.numpy() @ basis.T, abs=1e-12)


def test_the_gradient_of_coefficients_is_the_transform_of_the_weight_s() -> None:
    weight = normal(4, 3, 3, 3)
    low = analysed(weight, 4, tour(weight.reshape(4, -1))).lowest(7)
    source = Source(low).double()
    upstream = torch.from_numpy(normal(4, 3, 3, 3, seed=1).astype(np.float64))
    made = source()
    assert made.shape == weight.shape and made.detach().numpy() == pytest.approx(low.weight(), abs=1e-5)
    (made * upstream).sum().backward()
    assert low.inverse is not None and source.coefficients.grad is not None
    reordered = upstream.numpy().reshape(4, -1)[:, np.argsort(low.inverse)]
    expected = fft.dct(reordered, axis=1, norm="ortho")[:, :7]
    assert source.coefficients.grad.numpy() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(
        lambda y: torch.func.functional_call(source, {"coefficients": y}, ()), source.coefficients
    )


def test_training_moves_coefficients_and_leaves_the_order() -> None:
    task = tasks.load("digits", "digits_cnn")
    config = tensor_reordering.Config(points=((4, 1.0),))
    before, after = (
        next(tensor_reordering.compress(task, config, MemoryRun(budget))).parts[0]
        for budget in (Budget("post-training", 0.0), Budget("short", 0.1))
    )
    for old, new in zip(before.data["inverses"], after.data["inverses"], strict=True):
        assert np.array_equal(old, new)
    for old, new in zip(*(p.data["coefficients"].data["values"] for p in (before, after)), strict=True):
        assert old.shape == new.shape and not np.array_equal(old, new)


def test_training_uses_the_coefficients_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(tensor_reordering, "fit", lambda *given: seen.append((given[0], given[-1])))
    task, config = tasks.load("digits", "digits_cnn"), tensor_reordering.Config(points=((4, 1.0),), storage="uniform")
    point = next(tensor_reordering.compress(task, config, MemoryRun(Budget("short", 0.1))))
    ((generated, callback),) = seen
    exact = [source.coefficients.detach().clone() for source in generated.sources]
    with torch.no_grad():
        callback.before_epoch(0, None)
        inner = point.parts[0].data["coefficients"].data
        for source, codes, step in zip(generated.sources, inner["codes"], inner["steps"], strict=True):
            assert np.array_equal(source.coefficients.numpy(), codes.astype(np.float32) * step)
        callback.before_step(None)
        assert all(torch.equal(s.coefficients, own) for s, own in zip(generated.sources, exact, strict=True))


def test_weights_of_the_network_are_replaced_and_not_trained() -> None:
    task = tasks.load("digits", "digits_cnn")
    network, expected = task.reference(), task.reference()
    found = {path: analysed(w.numpy(), 4, tour(w.numpy().reshape(4, -1))) for path, w in weights(network, 4).items()}
    generated = Generated(network, {path: Source(own) for path, own in found.items()})
    for path in found:
        network.get_parameter(path).data.zero_()
    x = torch.from_numpy(normal(5, 1, 8, 8))
    assert torch.allclose(generated.eval()(x), expected(x), atol=1e-4)
    generated(x).sum().backward()
    given = {name for name, parameter in generated.named_parameters() if parameter.grad is not None}
    assert given == {n for n, _ in generated.named_parameters()} - {f"network.{path}" for path in found}


# Layers, rates and the tables


def test_the_layers_and_rates_of_the_official_code() -> None:
    found = weights(_dense("resnet50"), 4)
    assert len(found) == 53 and "conv1.weight" not in found and "layer1.0.downsample.0.weight" in found
    ratio = rates(found, 0.5, "progressive")
    assert ratio["layer1.0.conv1.weight"] == 1.5 and ratio["layer4.0.conv2.weight"] == 13.0
    assert ratio["fc.weight"] == pytest.approx(1 + 0.5 * 22.36, abs=0.01)
    mobile = weights(_dense("mobilenet_v2"), 4, tuple(f"features.{number}" for number in range(8)))
    assert len(mobile) == 22 and sum(w.numel() for w in mobile.values()) == 3_342_336
    assert min(w.numel() for w in mobile.values()) == 384 * 64
    assert set(rates(found, 3.0, "uniform").values()) == {3.0}
    assert (kept_frequencies(9216, 1.0), kept_frequencies(11, 4.0), kept_frequencies(3, 50.0)) == (9216, 2, 1)
    assert list(weights(tasks.load("digits", "digits_cnn").reference(), 4)) == ["3.weight", "7.weight", "12.weight"]


def test_all_parameters_of_the_tables_are_recounted() -> None:
    rows = [row for row in reported.of("tensor_reordering") if row.is_accounting]
    assert len(rows) == 2 * 11 + len(NETWORKS)
    assert {accounting.judged("tensor_reordering", row)[1].outcome for row in rows} == {"accounting matched"}


def test_notes_are_the_counts_of_the_paper() -> None:
    task = tasks.load("digits", "digits_resnet")
    (point,) = tensor_reordering.compress(
        task, tensor_reordering.Config(points=((4, 1.0),)), MemoryRun(Budget("post-training", 0.0))
    )
    part = point.parts[0]
    assert point.notes["coefficients"] == sum(values.size for values in part.data["coefficients"].data["values"])
    assert point.notes["indices"] == sum(w.numel() for w in weights(task.reference(), 4).values()) // 4
    decoded = bitstream.decode(bitstream.encode(point))
    for path, energy in point.notes["energy"].items():  # type: ignore[union-attr]
        weight, made = task.reference().get_parameter(path), decoded.get_parameter(path)
        left = 1 - (weight - made).detach().square().sum() / weight.detach().square().sum()
        assert energy == pytest.approx(float(left), abs=1e-3)


def test_the_file_has_ordinary_layers() -> None:
    task = tasks.load("digits", "digits_cnn")
    point = next(tensor_reordering.compress(task, tensor_reordering.Config(), MemoryRun(Budget("post-training", 0.0))))
    assert not point.edits
    assert list(blueprint.state(bitstream.decode(bitstream.encode(point)))) == list(blueprint.state(task.reference()))


def test_steps_are_shares_of_the_root_mean_square() -> None:
    weight = torch.from_numpy(normal(16, 8)) * 3
    low = {"w": analysed(weight.numpy(), 4, None)}
    part = _coefficients(low, {"w": weight}, tensor_reordering.Config(storage="uniform", step=0.25))
    assert part.data["steps"] == pytest.approx([0.25 * float(weight.square().mean().sqrt())])
    assert (
        np.abs(part.data["codes"][0] * part.data["steps"][0] - low["w"].coefficients).max() <= part.data["steps"][0] / 2
    )


def test_the_training_is_that_of_the_official_code() -> None:
    config = tensor_reordering.Config(epochs=20, milestones=(15,))
    paper, short = Budget("paper", None), Budget("short", 1.0, 0.003)
    assert config.operating_points(paper) == [20] * 5 and config.operating_points(short) == [1] * 5
    recipe = _recipe(config, paper, 20)
    assert (recipe.lr, recipe.batch, recipe.augmentation) == (0.00025, 64, Augmentation())
    assert recipe.optimiser == SGD(momentum=0.9, weight_decay=1e-4) and recipe.decay_norm
    assert recipe.factor(14.9) == 1 and recipe.factor(15) == pytest.approx(0.1)
    assert (_recipe(config, short, 1).lr, _recipe(config, short, 1).augmentation) == (0.003, None)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"points": []}, "points needs at least one pair"),
        ({"points": [[4, 1.0], [4, 1.0]]}, "each pair once"),
        ({"points": [[0, 1.0]]}, r"\$.points\[0\]\[0\]"),
        ({"points": [[4, 0.0]]}, r"\$.points\[0\]\[1\]"),
        ({"schedule": "uniform"}, "rates of at least 1"),
    ],
)
def test_settings_that_can_not_be_followed_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert(changes, tensor_reordering.Config)


def test_a_network_without_such_weights_is_refused() -> None:
    task = tasks.load("digits", "digits_cnn")
    reason = tensor_reordering.unsupported(task, tensor_reordering.Config(skip=("3", "7", "12")))
    assert reason == "digits_cnn has no weight to reorder that divides into 4 rows"
