"""Sparse optimisation: what is removed changes nothing, resumed solvers, goals, and stages."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import test_every_method as kit
import torch
from test_sparse_opt import drawn, found, network_with_units, optimiser_of
from torch import Tensor, nn

from benchmarks import networks, tasks
from benchmarks.evaluation import measure
from benchmarks.perf.test_sparse_opt import with_gradients
from benchmarks.running import plan
from benchmarks.training import SGD
from methods import sparse_opt
from methods.interface import Budget
from methods.sparse_opt import channels as solving
from methods.sparse_opt.cap import Cap
from methods.sparse_opt.halfspace import HSPG
from methods.sparse_opt.stages import planned
from methods.sparse_opt.units import flat, units

torch.set_num_threads(1)


def test_saved_solvers_go_on_as_if_nothing_had_happened() -> None:
    def run(network: nn.Module, optimiser: HSPG, steps: range) -> None:
        for step in steps:
            with_gradients(network, step, 0.05)
            optimiser.step()

    settings: Any = {"lr": 0.1, "strength": 1.5, "first": 2, "every": 1}
    network, groups = network_with_units()
    whole = copy.deepcopy(network)
    optimiser = optimiser_of(whole, groups, **settings)
    run(whole, optimiser, range(8))
    first = optimiser_of(network, groups, **settings)
    run(network, first, range(4))
    second = optimiser_of(network, groups, **settings)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(network, second, range(4, 8))
    assert torch.equal(second.alive, optimiser.alive) and not second.alive.all()
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "where"),
    [("digits_cnn", "inner"), ("digits_resnet", "inner"), ("digits_resnet", "branches"), ("mobilenet", "inner")],
)
def test_a_network_without_its_zero_units_computes_the_same(name: str, where: Any) -> None:
    """Also with depthwise convolutions and branches of a residual stream."""
    task: Any = tasks.load("digits", name) if name != "mobilenet" else Mobile()
    prunable, network = found(task, where), task.reference()
    known = units(network, prunable.groups)
    alive = (torch.rand(known.count, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    parts = alive.split([g.size for g in prunable.groups])
    keep = {g.name: part > 0 for g, part in zip(prunable.groups, parts, strict=True)}
    for mask in keep.values():
        mask[0] = True
    with torch.no_grad():
        factors = known.spread(flat(prunable.groups, keep), 1.0)
        for parameter, factor in zip(known.parameters, factors, strict=True):
            parameter.mul_(factor)
    x = task.prepare(task.calibration(4).inputs)
    with torch.no_grad():
        narrow = prunable.narrow(network, keep)[0]
        assert torch.allclose(narrow(x), network(x), atol=1e-5)
    assert measure.macs(narrow, x[:1]) == prunable.macs(keep) < measure.macs(network, x[:1])


class Mobile:
    """MobileNet-V2 with random weights, whose BatchNorms are all active."""

    network, architecture, arguments = "mobilenet", "mobilenet_v2", {"classes": 10}

    def reference(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return networks.build(self.architecture, self.arguments).eval()

    def calibration(self, count: int) -> Any:
        return type("Split", (), {"inputs": drawn(count, 3, 32, 32)})

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs


def made(solver: Any, strength: float, **settings: Any) -> list[Any]:
    config = sparse_opt.Config(solver=solver, strength=strength, **settings)
    task = tasks.load("digits", "digits_cnn")
    return list(sparse_opt.compress(task, config, kit.MemoryRun(Budget("short", 4.0))))


def test_the_solver_itself_removes_what_is_asked_for_or_its_smallest_channels_follow() -> None:
    """With a strong penalty its zeros meet the goal; with a weak one, the goal is met all the same."""
    strong, weak = (made("hspg", strength, targets=(0.4,))[0] for strength in (1.0, 1e-6))
    assert strong.notes["solved"] >= 1 > weak.notes["solved"] == 0
    for point in (strong, weak):
        shares = [kept / size for _, size, kept in point.notes["layers"]]
        assert min(shares) < 1


def test_proximal_steps_that_reach_the_goal_do_not_pass_it() -> None:
    """The label of a point is true: with one channel more, it has more MACs than the goal."""
    network = tasks.load("digits", "digits_cnn")
    prunable = found(network)
    (point,) = made("prox", 30.0, targets=(0.4,))
    kept = torch.tensor([float(kept) for _, _, kept in point.notes["layers"]])
    cap = Cap(prunable.groups, prunable.cost, 0.0, torch.Generator())
    more = max(float(cap.macs(kept + one)) for one in torch.eye(len(kept)))
    assert point.notes["zeros"] > 0 and point.notes["solved"] >= 1
    assert float(cap.macs(kept)) <= prunable.goal(0.4) < more


def zeros(point: Any) -> tuple[Tensor, int]:
    """Which weights of a point are zero, and their number."""
    weights = next(part for part in point.parts if part.codec == "sparse")
    mask = torch.cat([torch.as_tensor(codes == 0).flatten() for codes in weights.data["values"]])
    return mask, len(mask)


def test_weights_that_the_solver_set_to_zero_stay_zero() -> None:
    points = made("obprox", 0.05, sparsities=(0.5, 0.8))
    for point, goal in zip(points, (0.5, 0.8), strict=True):
        mask, total = zeros(point)
        assert int(mask.sum()) / total >= max(goal, point.notes["zeros"]) - 1e-4
    assert points[0].notes["zeros"] > 0


def test_zeros_of_a_point_stay_zero_at_the_next_one() -> None:
    """Also with a penalty below the gradients. Wrong code that this finds: proximal steps at each point."""
    first, second = made("obprox", 1e-4, sparsities=(0.5, 0.8))
    assert first.notes["zeros"] < 0.5 <= second.notes["zeros"] + 1e-4
    assert (zeros(first)[0] <= zeros(second)[0]).all()


# Stages


@pytest.mark.parametrize("epochs", [8.0, 100.0])
def test_epsilon_is_looked_at_as_often_as_promised(epochs: float) -> None:
    """`prunings` times or more in the second stage alone, and at least once per epoch."""
    task, config = tasks.load("digits", "digits_cnn"), sparse_opt.Config()
    recipe, first, every = planned(task, config, kit.MemoryRun(Budget("short", epochs)))
    an_epoch = math.ceil(len(task.train) / recipe.batch)
    second = round(recipe.epochs * an_epoch) - first
    assert second // every >= config.prunings and every <= an_epoch


def test_the_public_code_s_schedule_of_single_weights_can_be_configured() -> None:
    """params.yaml: 200 epochs of the solver, a tenth of the rate every 60, 20 epochs of proximal steps; one sparsity."""
    task = tasks.load("digits", "digits_cnn")
    cells = [cell for cell in plan.cells("cifar10", budget_name="paper") if cell.method == "sparse_opt"]
    found = [sparse_opt.Config(**cell.config) for cell in cells if cell.config["solver"] == "obprox"]
    assert found
    for config in found:
        recipe, first, _ = planned(task, config, kit.MemoryRun(Budget("paper", None)))
        assert recipe.epochs == 200 and recipe.lr == 0.1 and len(config.sparsities) == 1
        assert first == 20 * math.ceil(len(task.train) / recipe.batch)
        factors = [recipe.factor(epoch) for epoch in (59, 60, 119, 120, 179, 180, 199)]
        assert factors == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_both_solvers_of_channels_have_the_same_momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the method makes them: a comparison of the two says nothing about momentum. Both have the cap."""
    seen: list[tuple[float, bool]] = []

    def started(network: Any, task: Any, run: Any, recipe: Any, *_: Any) -> None:
        if not isinstance(recipe.optimiser, SGD):
            made = recipe.optimiser([{"params": [*network.parameters()], "lr": 0.1}])
            seen.append((made.param_groups[0]["momentum"], made._cap is not None))

    monkeypatch.setattr(solving, "fit", started)
    for solver in ("hspg", "prox"):
        made(solver, 0.1, targets=(0.3,))
    assert seen == [(0.9, True)] * 2
