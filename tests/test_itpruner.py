"""ITPruner: published widths follow from its cost polynomials alone, and pruned networks cost what the polynomial says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from test_every_method import MemoryRun

from benchmarks import bitstream, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from methods import itpruner
from methods.families.structured import Prunable, analyse, filters, highest
from methods.interface import Budget
from methods.itpruner import cifar_blocks, importance, polynomial, published, solve
from methods.itpruner.polynomial import Polynomial

torch.set_num_threads(1)
POST, SHORT = Budget("post-training", 0.0), Budget("short", 1.0)
R20 = [11, 11, 11, 22, 21, 22, 45, 43, 48]
R56 = [10] * 8 + [11, 22] + [21] * 7 + [22, 44] + [42] * 6 + [64, 64]


def digits() -> Any:
    return tasks.load("digits", "digits_resnet")


def cifar(depth: int) -> Polynomial:
    stages, count = ((16, 32), (32, 16), (64, 8)), (depth - 2) // 6
    widths, sizes = zip(*[stage for stage in stages for _ in range(count)], strict=True)
    return cifar_blocks.counted_as_published(widths, sizes, 10, 16)


def fifty(stem: int, *stages: tuple[list[int], list[int]]) -> list[int]:
    return [stem, *itertools.chain(*(first + later for first, later in stages))]


PUBLISHED = {  # name: polynomial, T in millions, widths
    "ResNet-50, 2300M": (
        published.resnet50(),
        2300,
        fifty(
            52,
            ([55, 55, 146], [55] * 4),
            ([105, 111, 232], [111] * 6),
            ([211, 222, 290], [222] * 10),
            ([423, 442, 1453], [442] * 4),
        ),
    ),
    "ResNet-50, 2000M": (
        published.resnet50(),
        2000,
        fifty(
            50,
            ([53, 54, 125], [54] * 4),
            ([101, 108, 179], [107] * 6),
            ([203, 216, 148], [215] * 10),
            ([407, 429, 1341], [429, 429, 429, 428]),
        ),
    ),
    "ResNet-50, 1800M": (
        published.resnet50(),
        1800,
        fifty(
            48,
            ([52, 52, 110], [52] * 4),
            ([98, 105, 142], [105] * 6),
            ([197, 211, 48], [211] * 10),
            ([397, 420, 1264], [419, 419, 419, 418]),
        ),
    ),
    "MobileNet-V1, 150M": (
        published.mobilenet_v1(),
        150,
        [23, 42, 63, 67, 132, 134, 275, 194, 202, 202, 194, 277, 522, 687],
    ),
    "MobileNet-V1, 50M": (
        published.mobilenet_v1(),
        50,
        [18, 31, 30, 38, 71, 76, 173, 52, 78, 78, 51, 178, 250, 522],
    ),
    "MobileNet-V2, 220M": (published.mobilenet_v2(), 220, [31, 14, 20, 28, 54, 74, 130, 298]),
    "MobileNet-V2, 150M": (published.mobilenet_v2(), 150, [29, 12, 16, 24, 43, 50, 98, 273]),
    "VGG-16, 100M": (published.vgg16(), 100, [44, 35, 71, 71, 145, 104, 145, 290, 205, 325, 432, 429, 469]),
    "ResNet-20, 20M": (cifar(20), 20, R20),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_nine_of_eleven_published_widths_need_no_importance(name: str) -> None:
    """To the channel, from α = 0. Wrong code that this finds: another count, start, bound or rounding."""
    cost, goal, widths = PUBLISHED[name]
    x = solve.shares(cost, goal * 1e6, np.zeros(len(widths)), "published", 0.1)
    assert solve.rounded(cost, x).tolist() == widths


def test_resnet56_needs_importance_in_its_last_two_blocks_alone() -> None:
    alpha = np.zeros(27)
    alpha[-2:] = 1e-5
    x = solve.shares(cifar(56), 60e6, alpha, "published", 0.1)
    assert solve.rounded(cifar(56), x).tolist() == R56
    without = solve.shares(cifar(56), 60e6, 0 * alpha, "published", 0.1)
    assert np.abs(solve.rounded(cifar(56), without) - R56).max() > 10


@pytest.mark.parametrize("name", [n for n in PUBLISHED if n.startswith(("ResNet", "MobileNet-V2", "VGG"))])
def test_the_projection_is_within_two_channels_of_them(name: str) -> None:
    cost, goal, widths = PUBLISHED[name]
    x = solve.shares(cost, goal * 1e6, np.zeros(len(widths)), "projection", 0.1)
    assert np.abs(solve.rounded(cost, x) - widths).max() <= 1


@pytest.mark.parametrize(
    ("cost", "millions"),
    [
        (published.resnet50(), 4187.083),
        (published.resnet50(as_printed=False), 4089.184),
        (published.mobilenet_v1(), 569.764),
        (published.mobilenet_v2(), 299.494),
        (published.vgg16(), 315.168),
        (cifar(20), 41.060),
        (cifar(56), 127.370),
    ],
)
def test_whole_networks_cost_what_the_official_code_says(cost: Polynomial, millions: float) -> None:
    assert cost(np.ones(len(cost.full))) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize(("depth", "widths", "macs", "values"), [(20, R20, 20.80, 0.139), (56, R56, 59.46, 0.451)])
def test_published_cifar_networks_are_built(depth: int, widths: list[int], macs: float, values: float) -> None:
    """Their multiply-accumulates and parameters. Wrong code that this finds: shortcuts of another kind."""
    arguments: dict[str, Any] = {"depth": depth, "classes": 10}
    assert cifar_blocks.counted("cifar_resnet", arguments, widths, (3, 32, 32)) / 1e6 == pytest.approx(macs, abs=5e-3)
    dense = cifar_blocks.blueprint.skeleton("cifar_resnet", arguments, {}, {})
    network = cifar_blocks.blueprint.skeleton("cifar_resnet", arguments, cifar_blocks.structure(dense, widths), {})
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(values, abs=5e-4)


def test_the_network_of_the_task_has_the_polynomial_of_the_code() -> None:
    found = cifar_blocks.polynomial(tasks.load("digits", "digits_resnet"))
    expected = cifar_blocks.counted_as_published([8] + [16] * 3 + [32] * 3, [8] + [4] * 3 + [2] * 3, 10, 8)
    assert (found.linear == expected.linear).all() and (found.products == expected.products).all()


def features(n: int = 30, sizes: tuple[int, ...] = (5, 40, 12)) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    shared = torch.randn(n, 3, generator=draws, dtype=torch.float64)
    made = []
    for size in sizes:
        mixed = shared @ torch.randn(3, size, generator=draws, dtype=torch.float64)
        made.append(mixed + torch.randn(n, size, generator=draws, dtype=torch.float64))
    return made


def dependence(made: list[torch.Tensor]) -> np.ndarray[Any, Any]:
    return importance.nhsic([importance.gram(each) for each in made])


def test_nhsic_is_that_of_feature_space() -> None:
    """‖X̃ⱼᵀX̃ᵢ‖² / (‖X̃ᵢᵀX̃ᵢ‖ ‖X̃ⱼᵀX̃ⱼ‖), without a Gram matrix over images."""
    made = features()
    found = dependence(made)
    centred = [each - each.mean(0) for each in made]
    for i, j in itertools.product(range(3), repeat=2):
        expected = (centred[j].T @ centred[i]).norm() ** 2
        expected /= (centred[i].T @ centred[i]).norm() * (centred[j].T @ centred[j]).norm()
        assert found[i, j] == pytest.approx(float(expected), abs=1e-6)
    assert (
        np.allclose(found, found.T) and np.allclose(found.diagonal(), 1) and (found >= 0).all() and (found <= 1).all()
    )


def test_nhsic_does_not_change_with_rotation_scale_and_shift() -> None:
    made = features()
    rotation = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(1)).double())[0]
    changed = [made[0] + torch.arange(5), 7 * made[1] @ rotation, made[2].reshape(-1, 3, 2, 2)]
    assert np.allclose(dependence(changed), dependence(made), atol=1e-6)
    assert dependence([made[0], made[0], made[1]])[0, 1] == pytest.approx(1, abs=1e-6)
    assert dependence([made[0], 0 * made[1]])[0, 1] == 0


def test_importance_falls_with_dependence_and_survives_large_beta() -> None:
    matrix = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.0]])
    assert importance.importance(matrix, 2.0, True) == pytest.approx(np.exp(-2 * np.array([0.6, 0.7, 0.3]) / 1.6))
    assert importance.importance(matrix, 2.0, False) == pytest.approx(np.exp(-2 * np.array([0.6, 0.7, 0.3])))


def test_relative_importance_has_no_unit() -> None:
    """Of order one for any network and β of one. Wrong code that this finds: α / max α, with t of about 1 / L."""
    matrix = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.0]])
    assert importance.relative(matrix, 2.0) == pytest.approx(np.exp(-2 * np.array([0.3, 0.4, 0.0]) / (1.6 / 3)))
    twice = np.kron(np.eye(2), matrix)  # two networks side by side
    assert importance.relative(twice, 2.0) == pytest.approx(np.tile(importance.relative(matrix, 2.0), 2))
    smaller = 0.1 * matrix + 0.9 * np.eye(3)
    assert importance.relative(smaller, 2.0) == pytest.approx(importance.relative(matrix, 2.0))
    assert importance.relative(matrix, 1e5)[2] == 1 and (importance.relative(np.eye(3), 2.0) == 1).all()


def test_the_scaled_solve_depends_on_the_network_and_the_published_one_hardly() -> None:
    """No layer's α is below SLSQP's tolerance, which would give the widths of α = 0."""
    config = itpruner.Config(targets=(0.5,), solve="scaled", images=64)
    (scaled,) = itpruner.compress(digits(), config, MemoryRun(POST))
    (published_,) = itpruner.compress(digits(), replace(config, solve="published"), MemoryRun(POST))
    alpha = scaled.notes["alpha"]
    assert isinstance(alpha, list) and max(alpha) == 1 and 0.01 < min(alpha) < 0.99  # type: ignore[type-var, operator]
    assert max(published_.notes["alpha"]) < 1e-6  # type: ignore[arg-type, operator]
    assert scaled.notes["widths_without_data"] < published_.notes["widths_without_data"]  # type: ignore[operator]


def test_what_is_measured_are_activations_after_their_function() -> None:
    """Readers of groups get what ReLU gives; blocks give what they give."""
    task, run = digits(), MemoryRun(POST)
    network = task.reference()
    seen: dict[str, torch.Tensor] = {}
    network.layer2[1].conv2.register_forward_pre_hook(lambda _m, x: seen.update(inner=x[0]))
    network.layer2[1].register_forward_hook(lambda _m, _x, y: seen.update(block=y))
    network(task.prepare(task.calibration(20).inputs))
    assert (seen["inner"] >= 0).all()
    places = importance.readers(network, analyse(task).groups)
    assert places["layer2.1.conv2"] is False and len(places) == 7
    expected = importance.nhsic([importance.gram(seen["inner"]), importance.gram(seen["block"])])
    found = importance.measured(task.reference(), task, run, 20, {"layer2.1.conv2": False, "layer2.1": True})
    assert np.allclose(found, expected, atol=1e-6)


@pytest.fixture(scope="module")
def prunable() -> Prunable:
    return analyse(digits())


@pytest.mark.parametrize("where", ["inner", "streams"])
def test_the_polynomial_is_the_cost_of_the_pruned_network(where: Any) -> None:
    task = digits()
    prunable = analyse(task, where)
    cost = polynomial.of(prunable.cost, prunable.groups)
    draws = np.random.default_rng(0)
    for _ in range(3):
        counts = [int(draws.integers(1, group.size + 1)) for group in prunable.groups]
        keep = {g.name: torch.arange(g.size) < count for g, count in zip(prunable.groups, counts, strict=True)}
        narrow, _ = prunable.narrow(task.reference(), keep)
        macs = measure.macs(narrow, task.prepare(task.calibration(1).inputs))
        assert cost(np.array(counts) / cost.full) == pytest.approx(macs, rel=1e-12)


def test_the_gradient_of_the_polynomial(prunable: Prunable) -> None:
    cost = cifar(20)
    x, step = np.linspace(0.3, 0.9, 9), 1e-6
    slopes = [(cost(x + step * e) - cost(x - step * e)) / (2 * step) for e in np.eye(9)]
    assert cost.gradient(x) == pytest.approx(slopes, rel=1e-6)


def test_a_larger_budget_makes_no_width_smaller() -> None:
    for cost in (cifar(56), published.resnet50()):
        whole = cost(np.ones(len(cost.full)))
        found = [solve.projection(cost, share * whole, np.ones(len(cost.full))) for share in np.linspace(0.3, 1, 8)]
        assert all((later >= earlier - 1e-9).all() for earlier, later in itertools.pairwise(found))


@pytest.mark.parametrize("how", ["published", "scaled", "projection", "uniform"])
def test_every_solve_meets_its_budget(how: Any) -> None:
    cost, alpha = cifar(20), np.linspace(0.1, 1, 9)
    most = np.ones(9)
    most[3] = 0.5
    for share in (0.3, 0.7):
        goal = share * cost(np.ones(9))
        x = solve.shares(cost, goal, alpha, how, 0.1, most)
        assert cost(x) == pytest.approx(goal, rel=1e-5) and (x <= most + 1e-12).all() and (x >= 0).all()
        widths = solve.within(cost, x, goal)
        assert cost(widths / cost.full) <= goal and np.abs(widths - cost.full * x).max() < 2 and (widths >= 1).all()
    assert (solve.shares(cost, 1e12, alpha, how, 0.1, most) == most).all()


def test_uniform_keeps_one_share() -> None:
    x = solve.shares(cifar(20), 20e6, np.zeros(9), "uniform", 0.1)
    assert np.ptp(x) < 1e-12


def test_the_scaled_solve_is_the_best_and_needs_its_floor() -> None:
    """Without a floor, the optimum of the stated problem gives layers no channel at all."""
    cost, alpha = cifar(20), np.linspace(0.2, 1, 9)
    best = solve.shares(cost, 12e6, alpha, "scaled", 0.1)
    assert best.min() >= 0.1 - 1e-9
    others = [solve.shares(cost, 12e6, alpha, how, 0.1) for how in ("published", "projection", "uniform")]
    assert all(alpha @ best >= alpha @ np.maximum(x, 0) - 1e-6 for x in others if x.min() >= 0.1)
    fifty = published.resnet50()
    ones = np.ones(len(fifty.full))
    assert solve.shares(fifty, 1.8e9, ones, "scaled", 0.0).min() < 1e-6
    assert solve.shares(fifty, 1.8e9, ones, "scaled", 0.1).min() >= 0.1 - 1e-9
    with pytest.raises(MethodError, match=r"at 0\.9 of each width, .* remain; lower the floor"):
        solve.shares(cost, 12e6, alpha, "scaled", 0.9)


def test_all_channels_give_the_reference_bit_for_bit(prunable: Prunable) -> None:
    reference = digits().reference()
    whole = {group.name: group.size for group in prunable.groups}
    scores = {group.name: torch.arange(group.size) for group in prunable.groups}
    network, _ = prunable.narrow(reference, highest(scores, prunable.all_kept(), whole))
    images = digits().prepare(digits().calibration(10).inputs)
    assert torch.equal(network(images), reference(images))


def test_points_cost_at_most_their_target_and_keep_the_largest_filters(prunable: Prunable) -> None:
    task = digits()
    for how in ("published", "uniform"):
        config, run = itpruner.Config(targets=(0.4,), solve=how, images=64), MemoryRun(POST)  # type: ignore[arg-type]
        (point,) = itpruner.compress(task, config, run)
        network = bitstream.decode(bitstream.encode(point))
        macs = measure.macs(network, task.prepare(task.calibration(1).inputs))
        assert 0.9 * prunable.goal(0.4) < macs <= prunable.goal(0.4)
        assert ("alpha" in point.notes) == ("widths_without_data" in point.notes) == (how == "published")
        for group in prunable.groups:
            kept, norms = run.saved["choice 0.4"]["keep"][group.name], filters(task.reference(), group).abs().sum(1)
            assert kept.all() or norms[kept].min() >= norms[~kept].max()


@pytest.mark.parametrize("how", ["published", "uniform"])
def test_blocks_are_trained_from_scratch(how: Any) -> None:
    task, run = digits(), MemoryRun(SHORT)
    config = itpruner.Config(structure="blocks", targets=(0.5,), solve=how, images=64, lr=0.05)
    (point,) = itpruner.compress(task, config, run)
    widths = point.notes["widths"]
    assert isinstance(widths, list) and len(widths) == 7 and point.point == {"removed": 0.5}
    network = bitstream.decode(bitstream.encode(point))
    paths = list(cifar_blocks.find(task.reference()))
    for name in ("conv1", "conv2"):
        assert [network.get_submodule(f"{path}.{name}").out_channels for path in paths] == widths
    assert itpruner.unsupported(task, replace(config, widths=((1, 2),))) == (
        "digits_resnet has 7 blocks, but widths are given for another number"
    )
    given = replace(config, widths=(tuple(widths),), images=10**6)  # and no data is looked at
    (again,) = itpruner.compress(task, given, MemoryRun(SHORT))
    assert bitstream.encode(again) == bitstream.encode(point)


def test_a_resumed_run_keeps_its_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    config = itpruner.Config(structure="blocks", targets=(0.5,), images=64)
    saved: dict[str, Any] = {}
    (point,) = itpruner.compress(digits(), config, MemoryRun(SHORT, saved=saved))
    monkeypatch.setattr(solve, "shares", None)
    (again,) = itpruner.compress(digits(), config, MemoryRun(SHORT, saved=saved))
    assert bitstream.encode(again) == bitstream.encode(point)


def test_what_can_not_be_done_is_said() -> None:
    config = itpruner.Config(structure="blocks")
    cnn = tasks.load("digits", "digits_cnn")
    assert "needs the blocks of a CIFAR ResNet, which digits_cnn does not have" in str(
        itpruner.unsupported(cnn, config)
    )
    with pytest.raises(MethodError, match="is trained from scratch: use a budget with training"):
        next(itpruner.compress(digits(), config, MemoryRun(POST)))
    for changes, message in (
        ({"allowed": [1e6]}, "allowed and widths belong to structure blocks"),
        ({"structure": "blocks", "allowed": [1e6, 2e6]}, "allowed has to fall"),
        ({"structure": "blocks", "widths": [[3]]}, "one tuple for each operating point"),
    ):
        with pytest.raises(msgspec.ValidationError, match=message):
            msgspec.convert(changes, itpruner.Config)
    task = digits()
    broken = task.reference()
    with torch.no_grad():
        broken.conv1.weight.fill_(torch.nan)
    with pytest.raises(MethodError, match=r"activations at layer1\.0 are not finite"):
        importance.measured(broken, task, MemoryRun(POST), 5, {"layer1.0": True})
