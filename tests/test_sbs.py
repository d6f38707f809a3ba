"""Single-path bit sharing: nested grids, gates, gradients, the cost, the search in turns, and the extracted network."""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
import test_every_method as kit
import torch
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import bops
from benchmarks.training import Recipe, fit
from methods import sbs
from methods.families import quantised_activations as layers
from methods.families import storage
from methods.interface import Budget, Task
from methods.sbs.config import Config
from methods.sbs.extraction import extracted, table
from methods.sbs.gates import BITS, Filters, Grid, Shared, gate, residuals
from methods.sbs.operations import Operations
from methods.sbs.searched import Searched
from methods.sbs.training import Optimise, Searching

torch.set_num_threads(1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def resnet() -> Task:
    return tasks.load("digits", "digits_resnet")


def started(task: Task, **changes: Any) -> tuple[Searched, Operations]:
    return sbs._start(task, Config(**changes))


def images(task: Task, count: int = 16) -> Tensor:
    return task.prepare(task.validation.inputs[:count])


# Grids and gates


def test_offsets_of_nested_grids_add_up_to_the_finer_grid() -> None:
    """Exactly, where no value is half-way: z_b = D(z, s_b) for each prefix of the sum of offsets."""
    steps = [Fraction(1, 2**b - 1) for b in BITS]
    for low, high, s, t in zip(BITS, BITS[1:], steps, steps[1:], strict=False):
        assert t == s / (2**low + 1) and high == 2 * low
    for z in map(Fraction, drawn(2000).double().tolist()):
        total = Fraction(0)
        for step in steps:
            total += step * math.floor((z - total) / step + Fraction(1, 2))
            assert total == step * math.floor(z / step + Fraction(1, 2))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("gates", "bits"), [((1, 1), 8), ((1, 0), 4), ((0, 1), 2), ((0, 0), 2)])
def test_gates_choose_the_grid_of_an_ordinary_quantiser_to_the_bit(
    gates: tuple[int, int], bits: int, signed: bool
) -> None:
    z, clip = drawn(10_000), torch.tensor([1.37])
    found = Shared.apply(z, clip, torch.tensor(gates).float(), signed)  # type: ignore[no-untyped-call]
    assert torch.equal(found, layers.on_grid(z, clip, bits, signed))


@pytest.mark.parametrize("gates", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("signed", [False, True])
def test_gradients_of_the_sum_of_offsets(gates: tuple[float, float], signed: bool) -> None:
    """By the sum itself, as written, with the gradient of rounding taken for 1. The gradient to z is the identity."""

    def rounded(x: Tensor, step: float) -> Tensor:
        return x + ((x / step).round() * step - x).detach()

    def written(z: Tensor, clip: Tensor, g: Tensor) -> Tensor:
        two = rounded(z, 1 / 3)
        four = rounded(z - two, 1 / 15)
        eight = rounded(z - two - four, 1 / 255)
        total = two + g[0] * (four + g[1] * eight)
        return clip * (2 * total - 1 if signed else total)

    z = drawn(500).double().requires_grad_()
    clip, g = (
        torch.tensor([1.3], dtype=torch.float64, requires_grad=True),
        torch.tensor(gates).double().requires_grad_(),
    )
    weights = torch.randn(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = torch.autograd.grad((written(z, clip, g) * weights).sum(), (z, clip, g))
    value: Tensor = Shared.apply(z, clip, g, signed)  # type: ignore[no-untyped-call]
    assert torch.allclose(value, written(z, clip, g))
    found = torch.autograd.grad((value * weights).sum(), (z, clip, g))
    assert all(torch.allclose(a, b) for a, b in zip(found, wanted, strict=True))
    assert torch.allclose(found[0], weights * 1.3 * (2 if signed else 1))


def test_the_gradient_to_a_threshold_is_that_of_a_sigmoid() -> None:
    metric, threshold = torch.tensor([0.3, 0.1], requires_grad=True), torch.tensor([0.2, 0.2], requires_grad=True)
    found = gate(metric, threshold)
    assert found.tolist() == [1, 0]
    (found * torch.tensor([2.0, 3.0])).sum().backward()
    s = torch.sigmoid(metric - threshold).detach()
    assert threshold.grad is not None and metric.grad is not None
    assert torch.allclose(threshold.grad, -torch.tensor([2.0, 3.0]) * s * (1 - s))
    assert torch.allclose(metric.grad, -threshold.grad)
    assert gate(torch.ones(1), torch.ones(1)).item() == 0  # above, not at


def test_metrics_are_mean_residuals_of_what_is_kept() -> None:
    z, kept = drawn(6, 5), (torch.arange(6) % 2).float()[:, None]
    own = z[1::2]
    wanted = [(own - (own * last).round() / last).abs().mean() for last in (3, 15)]
    assert torch.allclose(residuals(z, kept), torch.stack(wanted))
    assert residuals(drawn(10**6))[0] == pytest.approx(1 / 12, rel=0.01)
    assert residuals(drawn(10**6))[1] == pytest.approx(1 / 60, rel=0.01)


def test_a_grid_closes_its_last_gate() -> None:
    grid = Grid(signed=False, gated=True)
    grid(drawn(100))
    found = [grid.bits()]
    for _ in range(2):
        grid.close()
        found.append(grid.bits())
    assert found == [8, 4, 2]
    with torch.no_grad():
        grid.thresholds[1] = 0.0  # type: ignore[index]
    assert grid.bits() == 2  # the first gate is closed


def test_groups_of_filters_close_in_the_order_of_their_norms() -> None:
    weights = torch.tensor([4.0, 4, 1, 1, 3, 3, 2, 2, 1.5])[:, None]
    filters = Filters(9, 2, 0.7)
    assert filters.norms(weights).tolist() == pytest.approx([1, 0.25, 0.75, 0.5, 0.375])
    assert filters.closable == 3 and filters.sizes.tolist() == [2, 2, 2, 2, 1]
    closed = []
    while (margin := filters.margin(weights)) is not None:
        closed.append(margin[1])
        filters.close(weights)
    assert closed == [2, 1, 2] and filters.gates(weights).tolist() == [1, 0, 1, 0, 0]
    with torch.no_grad():
        filters.threshold.fill_(0.9)
        filters.clamp(weights)
        assert filters.threshold.item() == 0.5
        filters.threshold.fill_(-0.1)
        filters.clamp(weights)
        assert filters.threshold.item() == 0
    assert Filters(4, 8, 0.9).closable == 0  # one group stays


# The whole network


@pytest.mark.parametrize("mode", [True, False], ids=["training", "scoring"])
def test_with_all_gates_open_it_is_the_network_of_eight_bits_to_the_bit(mode: bool) -> None:
    task = resnet()
    network, _ = started(task)
    same = task.reference()
    paths = list(storage.layers(same))
    known = layers.seen(same, task, 50, paths)
    layers.wrap(same, layers.bits_of(paths, 8), known, normalise=True, start="one")
    for path, norm in network.network.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            same.get_submodule(path).load_state_dict(norm.state_dict())
    assert torch.equal(network.train(mode)(images(task)), same.train(mode)(images(task)))


def closed_at_random(network: Searched, seed: int = 0) -> None:
    """Close gates of all kinds."""
    draws = torch.Generator().manual_seed(seed)
    for side in ("weights", "inputs"):
        for grid in network.grids(side):
            for _ in range(int(torch.randint(3, (), generator=draws))):
                grid.close()
    for group, filters in network.pairs():
        for _ in range(int(torch.randint(filters.closable + 1, (), generator=draws))):
            filters.close(network.by_channel(group))


@pytest.mark.parametrize("start", ["one", "calibrated"])
def test_the_extracted_network_is_the_searched_one(start: str) -> None:
    """Outputs and bit operations, which are counted in the decoder's network by hooks."""
    task = resnet()
    network, operations = started(task, start=start)
    closed_at_random(network)
    network.eval()
    operations.hard()
    small, plan = extracted(task, network)
    with torch.no_grad():
        wanted, found = network(images(task)), small(images(task))
    assert float((wanted - found).abs().max()) <= 1e-5 * float(wanted.abs().max())
    _, decoded, _ = layers.parts(small)
    with torch.no_grad():
        assert torch.equal(decoded(images(task)), found)
    assert float(operations.total()) == bops.count(decoded, images(task, 1))
    assert plan.edits and {bits for row in table(network) for bits in row[1:3]} == {2, 4, 8, 32}  # type: ignore[index]


def test_without_grids_the_extracted_network_is_the_pruned_reference() -> None:
    task = resnet()
    network, operations = started(task, variant="prune")
    assert torch.equal(network.eval()(images(task)), task.reference()(images(task)))
    closed_at_random(network)
    operations.hard()
    small, _ = extracted(task, network)
    assert torch.allclose(network(images(task)), small(images(task)), atol=1e-4)
    assert float(operations.total().detach()) == bops.count(small, images(task, 1))


def test_the_cost_with_all_gates_open_is_that_of_eight_bits() -> None:
    for task in (resnet(), tasks.load("digits", "digits_cnn")):
        network, operations = started(task)
        network(images(task))
        assert operations.dense == bops.count(task.reference(), images(task, 1))
        assert float(operations.total()) == operations.dense / 16


@pytest.mark.parametrize("side", ["weights", "inputs"])
def test_slopes_of_the_cost_are_its_changes(side: str) -> None:
    """The cost is linear in each gate: its slope is the difference of the gate open and closed. The other side is held."""
    task = resnet()
    network, operations = started(task)
    network.train()(images(task))
    closed_at_random(network, seed=2)
    operations.hard()
    grids = network.grids(side)
    for grid in grids:
        grid.gates.requires_grad_()
    other = network.grids("inputs" if side == "weights" else "weights")
    for grid in other:
        grid.gates.requires_grad_()
    cost = operations.total(side)
    slopes = torch.autograd.grad(cost, [grid.gates for grid in grids], retain_graph=True)
    assert all(found is None for found in torch.autograd.grad(cost, [g.gates for g in other], allow_unused=True))
    for grid, slope in zip(grids[:4], slopes, strict=False):
        for place in range(2):
            values = []
            for state in (0.0, 1.0):
                grid.gates = grid.gates.detach().clone()
                before = float(grid.gates[place])
                grid.gates[place] = state
                values.append(float(operations.total(side).detach()))
                grid.gates[place] = before
            assert float(slope[place]) == pytest.approx(values[1] - values[0], abs=1e-3)


# The search


def searching(task: Task, goal: float = 0.01, **changes: Any) -> tuple[Searched, Searching, Recipe]:
    network, operations = started(task, **changes)
    thresholds = [one for side in network.thresholds().values() for one in side]
    callback = Searching(operations, goal * operations.dense, 1.0)
    return network, callback, Recipe(1.0, 0.001, optimiser=Optimise(thresholds, 0.01, 1e-4))


def test_thresholds_of_weights_and_inputs_are_trained_in_turn() -> None:
    """And only those of one kind in a step; none falls below 0, and those of filters not beyond what may be pruned."""
    task = resnet()
    network, callback, recipe = searching(task)
    seen: list[dict[str, list[Tensor]]] = []
    after = callback.after_step

    def note() -> None:
        after()
        seen.append({side: [p.detach().clone() for p in found] for side, found in network.thresholds().items()})

    callback.after_step = note  # type: ignore[method-assign]
    start = {side: [p.detach().clone() for p in found] for side, found in network.thresholds().items()}
    fit(network, task, kit.MemoryRun(Budget("short", 1.0)), recipe, "search", None, callback)
    assert len(seen) > 6
    for step, (before, now) in enumerate(itertools.pairwise([start, *seen])):
        for side, turn in (("weights", 0), ("inputs", 1)):
            moved = any(not torch.equal(a, b) for a, b in zip(before[side], now[side], strict=True))
            assert moved == (step % 2 == turn), (step, side)
        assert all(float(p.min()) >= 0 for side in now.values() for p in side)
    for group, filters in network.pairs():
        norms = filters.norms(network.by_channel(group)).sort().values
        assert filters.threshold <= norms[max(filters.closable - 1, 0)]


def test_the_cost_ends_where_the_goal_is_met() -> None:
    task = resnet()
    for goal, zero in ((1.0, True), (0.01, False)):
        network, callback, _ = searching(task, goal)
        outputs = network.train()(images(task))
        term = callback.loss_term(images(task), outputs, outputs)
        assert term is not None and (float(term) == 0) == zero
    assert float(term) == pytest.approx(math.log(1 / 16 / 0.01), rel=1e-5)  # type: ignore[arg-type]


def test_thresholds_have_a_learning_rate_of_their_own_and_no_weight_decay() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimiser = Optimise([b], 0.5, 1e-4)([{"params": [a, b], "lr": 0.1}])
    assert [(g["params"], g["lr"], g["weight_decay"]) for g in optimiser.param_groups] == [
        ([a], 0.1, 1e-4),
        ([b], 0.5, 0.0),
    ]
    recipe = sbs._search(Config(), kit.MemoryRun(Budget("paper", None)), started(resnet())[0], 30)
    assert recipe.factor(29) == 1


def test_gates_close_until_the_goal_is_met_and_no_further() -> None:
    """The gate with the least margin for what it saves is first, found here by closing each alone."""
    task = resnet()
    network, operations = started(task)
    operations.hard()
    before = float(operations.total())
    ratios = []
    for side in ("weights", "inputs"):
        for n, grid in enumerate(network.grids(side)):
            other = copy.deepcopy(network)
            other.grids(side)[n].close()
            counted = Operations.__new__(Operations)
            counted.__dict__.update(operations.__dict__, network=other, layers=list(other.layers().values()))
            counted.hard()
            ratios.append((grid.margin() / math.log(before / float(counted.total())), side, n))
    assert operations.meet(before * 0.9999) == 1
    _, side, n = min(ratios)
    assert [grid.bits() for grid in network.grids(side)].index(4) == n
    for ratio in (20, 66.3, 150):
        closed = operations.meet(operations.dense / ratio)
        assert closed > 0 and float(operations.total()) <= operations.dense / ratio
    with pytest.raises(MethodError, match=r"can't fall to .*: with all gates closed"):
        operations.meet(operations.dense / 1000)
    assert all(grid.bits() == 2 for side in ("weights", "inputs") for grid in network.grids(side))
    assert all(mask.any() and not mask.all() for mask in network.keep().values())


# Points


def test_a_point_has_at_most_the_bit_operations_of_its_target() -> None:
    task = kit.task_for("sbs")
    for variant in ("quantise", "prune"):
        config = Config(variant=variant, targets=(40.0,), prune_targets=(1.5,))  # type: ignore[arg-type]
        with kit.counted_training(fake=True):
            (point,) = sbs.compress(task, config, kit.MemoryRun(kit.SHORT))
        network = bitstream.decode(bitstream.encode(point))
        found = bops.count(network, images(task, 1))
        assert (
            found == point.notes["bops"] and found <= bops.count(task.reference(), images(task, 1)) / config.points[0]
        )
        kept = [(row[3], row[4]) for row in point.notes["layers"]]  # type: ignore[index,union-attr]
        assert all(a == b for a, b in kept) == (variant == "quantise")


def test_the_search_has_its_own_part_of_the_epochs() -> None:
    config = Config()
    assert config.operating_points(Budget("paper", None)) == [230.0] * 4
    assert config.search(Budget("paper", None), 230.0) == 30
    assert config.search(Budget("short", 2.0), 2.0) == 0.5
