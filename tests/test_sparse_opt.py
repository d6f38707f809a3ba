"""Sparse optimisation: the solvers by their definitions, and zeros that are final."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import tasks
from benchmarks.perf.test_sparse_opt import Loop, with_gradients
from benchmarks.training.layout import channels_last
from methods.families.structured import Prunable, channels, cost
from methods.sparse_opt.cap import Cap
from methods.sparse_opt.halfspace import HSPG, GroupProxSG
from methods.sparse_opt.orthant import OBProxSG, orthant_step, prox_step
from methods.sparse_opt.units import Units, flat, sizes, units

torch.set_num_threads(1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stepped(x: Tensor, gradient: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(x.clone())
    parameter.grad = gradient.clone()
    return parameter


def found(task: Any, where: Any = "inner") -> Prunable:
    """The channels of a task's network, without the test whether they can be followed."""
    network, x = task.reference(), task.prepare(task.calibration(1).inputs)
    groups = channels.find(network, x, where)
    return Prunable(task, groups, cost.measure(network, groups, x))


# OBProx-SG


def test_the_proximal_step_is_the_best_point_of_a_grid() -> None:
    grid = torch.linspace(-3, 3, 60_001)
    for value in (-1.7, -0.4, 0.0, 0.1, 0.31, 2.0):
        x = torch.tensor([value])
        prox_step([x], [torch.zeros(1)], lr=0.5, strength=0.6)
        best = grid[((grid - value).square() / 2 + 0.3 * grid.abs()).argmin()]
        assert float(x) == pytest.approx(float(best), abs=2e-4)


def test_without_penalty_a_proximal_step_is_a_step_of_sgd() -> None:
    x, plain = stepped(drawn(50), drawn(50, seed=1)), stepped(drawn(50), drawn(50, seed=1))
    OBProxSG([{"params": [x], "lr": 0.1}], 0.0, prox=1).step()
    torch.optim.SGD([plain], lr=0.1).step()
    assert torch.equal(x, plain)


def test_an_orthant_step_by_its_definition() -> None:
    """No sign changes, and no zero comes back, whatever the gradients are."""
    x, g = drawn(1000), 3 * drawn(1000, seed=1)
    x[::3] = 0
    after = x.clone()
    orthant_step([after], [g], lr=0.3, strength=0.5)
    hat = x - 0.3 * (g + 0.5 * x.sign())
    assert torch.allclose(after, torch.where(x.sign() * hat > 0, hat, 0.0))
    assert (after * x >= 0).all() and not after[::3].any() and (after == 0).sum() > 334


def test_stages_alternate_or_the_second_one_stays() -> None:
    """A zero leaves zero in proximal steps alone."""
    for orthant, moves in ((2, [1, 1, 0, 0, 1, 1, 0]), (None, [1, 1, 0, 0, 0, 0, 0])):
        x = stepped(torch.zeros(1), torch.ones(1))
        optimiser = OBProxSG([{"params": [x], "lr": 0.1}], 0.0, prox=2, orthant=orthant)
        seen = []
        for _ in moves:
            with torch.no_grad():
                x.zero_()
            optimiser.step()
            seen.append(int(bool(x.any())))
        assert seen == moves


class Logistic:
    """Logistic regression on `items` of `size` inputs with blocks of equal inputs' weights, `few` blocks of them not zero."""

    def __init__(self, size: int, few: int, block: int = 1, items: int = 1000) -> None:
        truth = torch.zeros(size)
        truth[: few * block] = 2 * drawn(few * block, seed=1)
        self.inputs = drawn(items, size, seed=2)
        self.labels = (
            torch.rand(items, generator=torch.Generator().manual_seed(3)) < (self.inputs @ truth).sigmoid()
        ).float()

    def loss(self, x: Tensor, chosen: Tensor | slice = slice(None)) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self.inputs[chosen] @ x, self.labels[chosen])

    def train(self, x: nn.Parameter, optimiser: torch.optim.Optimizer, epochs: int = 60, batch: int = 50) -> list[int]:
        """The non-zero values after each epoch."""
        draws, counts = torch.Generator().manual_seed(4), []
        for _ in range(epochs):
            for chosen in torch.randperm(len(self.inputs), generator=draws).split(batch):
                optimiser.zero_grad()
                self.loss(x, chosen).backward()
                optimiser.step()
            counts.append(int(x.count_nonzero()))
        return counts


def test_orthant_steps_find_sparse_solutions_and_proximal_steps_dense_ones() -> None:
    """The synthetic experiment: an objective that is no worse, with a fraction of the non-zeros."""
    problem, strength = Logistic(400, few=10), 0.02
    results = {}
    for name, prox in (("prox", 10**6), ("orthant", 6 * 20)):
        x = nn.Parameter(0.1 * drawn(400, seed=5))
        counts = problem.train(x, OBProxSG([{"params": [x], "lr": 0.1}], strength, prox=prox))
        results[name] = float((problem.loss(x) + strength * x.abs().sum()).detach()), counts
    (dense, all_counts), (sparse, counts) = results["prox"], results["orthant"]
    assert sparse <= dense + 1e-3
    assert counts[-1] < 40 and all_counts[-1] > 3 * counts[-1]
    assert all(later <= earlier for earlier, later in itertools.pairwise(counts[6:]))


def test_half_space_steps_find_fewer_groups() -> None:
    """The synthetic experiment for 40 groups of 10 values, with the same penalty."""
    problem, strength, known = Logistic(400, few=2, block=10), 0.05, torch.arange(40)
    results = {}
    for name in ("prox", "halfspace"):
        x = nn.Parameter(0.1 * drawn(400, seed=5))
        rows = nn.Parameter(x.detach().view(40, 10))
        own = Units({rows: known}, 40)
        groups = [{"params": [rows], "lr": 0.1}]
        kind: Any = GroupProxSG if name == "prox" else HSPG
        more = {} if name == "prox" else {"first": 6 * 20}
        optimiser = kind(groups, own, strength, torch.ones(40), momentum=0.0, **more)
        flatly = _Flat(problem)
        flatly.train(rows, optimiser)
        lengths = rows.detach().norm(dim=1)
        results[name] = float(flatly.loss(rows.detach()) + strength * lengths.sum()), int((lengths > 0).sum())
    (dense, many), (sparse, few) = results["prox"], results["halfspace"]
    assert sparse <= dense + 1e-3 and few <= 4 < 3 * few < many


class _Flat(Logistic):
    """The same problem for weights as a matrix of groups."""

    def __init__(self, problem: Logistic) -> None:
        self.inputs, self.labels = problem.inputs, problem.labels

    def loss(self, x: Tensor, chosen: Tensor | slice = slice(None)) -> Tensor:
        return super().loss(x.flatten(), chosen)


def test_small_orthant_steps_with_exact_gradients_never_raise_the_objective() -> None:
    problem, x, strength = Logistic(50, few=5), nn.Parameter(drawn(50, seed=6)), 0.01
    smooth = float(torch.linalg.matrix_norm(problem.inputs, 2) ** 2) / len(problem.inputs) / 4
    optimiser = OBProxSG([{"params": [x], "lr": 0.9 / smooth}], strength, prox=0)
    values = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = problem.loss(x)
        values.append(float((loss + strength * x.abs().sum()).detach()))
        loss.backward()
        optimiser.step()
    assert all(later <= earlier + 1e-7 for earlier, later in itertools.pairwise(values))


# HSPG


def network_with_units(width: int = 4, biased: bool = True) -> tuple[nn.Module, list[Any]]:
    """Two convolutions with BatchNorm, whose first one may have a bias, and the groups of their channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=biased),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, 5),
        ).eval()
    return network, channels.find(network, torch.zeros(1, 3, 8, 8))


def optimiser_of(network: nn.Module, groups: list[Any], lr: float = 0.5, **settings: Any) -> HSPG:
    known = units(network, groups)
    settings = {"strength": 0.5, "alive": torch.ones(known.count), "first": 0, **settings}
    return HSPG([{"params": [*network.parameters()], "lr": lr}], known, **settings)


@pytest.mark.parametrize("last", [False, True])
def test_steps_are_those_of_a_loop_over_channels(last: bool) -> None:
    """Both stages, with momentum, biases, BatchNorm, and in either memory layout."""
    network, groups = network_with_units()
    naive = copy.deepcopy(network)
    if last:
        channels_last(network)
    ours = optimiser_of(network, groups, 0.1, strength=2.0, first=3, epsilon=0.2)
    loop = Loop(naive, groups, 2.0, first=3, epsilon=0.2)
    for step in range(6):
        with_gradients(network, step, 0.1)
        with_gradients(naive, step, 0.1)
        ours.step()
        loop.step(0.1)
        for p, q in zip(network.parameters(), naive.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-6)
    assert 0 < ours.alive.sum() < len(ours.alive)


def test_a_unit_has_every_value_that_writes_its_channel() -> None:
    network, groups = network_with_units()
    first = sizes(network, groups)["0"]
    expected = network[0].weight.flatten(1).square().sum(1) + network[0].bias.square()
    expected = expected + network[1].weight.square() + network[1].bias.square()
    assert torch.allclose(first, (expected / (27 + 1 + 2)).sqrt())


def test_the_group_step_is_the_best_point_of_a_grid() -> None:
    axis = torch.linspace(-2, 2, 401)
    grid = torch.cartesian_prod(axis, axis)
    for value in ([1.5, -0.7], [0.2, 0.1], [0.0, 0.0]):
        x = stepped(torch.tensor([value]), torch.zeros(1, 2))
        GroupProxSG(
            [{"params": [x], "lr": 0.5}],
            Units({x: torch.zeros(1, dtype=torch.int64)}, 1),
            1.0,
            torch.ones(1),
            momentum=0.0,
        ).step()
        best = grid[((grid - torch.tensor(value)).square().sum(1) / 2 + 0.5 * grid.norm(dim=1)).argmin()]
        assert torch.allclose(x[0], best, atol=1e-2)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_proximal_steps_with_momentum_solve_the_same_problem(momentum: float) -> None:
    """½ ‖x − a‖² + λ Σ ‖x_u‖ is smallest at a_u · max(0, 1 − λ / ‖a_u‖). Wrong code that this finds: λ without momentum."""
    target, strength = drawn(6, 4), 1.8
    x = nn.Parameter(drawn(6, 4, seed=1))
    known = Units({x: torch.arange(6)}, 6)
    optimiser = GroupProxSG([{"params": [x], "lr": 0.05}], known, strength, torch.ones(6), momentum=momentum)
    for _ in range(600):
        x.grad = (x - target).detach()
        optimiser.step()
    best = target * (1 - strength / target.norm(dim=1, keepdim=True)).clamp_min(0)
    assert torch.allclose(x, best, atol=1e-4) and 0 < int(best.any(1).sum()) < 6


def alive_after(lr: float, epsilon: float, strength: float = 0.5, steps: int = 1) -> Tensor:
    network, groups = network_with_units(16)
    optimiser = optimiser_of(network, groups, lr, epsilon=epsilon, strength=strength)
    for step in range(steps):
        with_gradients(network, step, 1.0)
        optimiser.step()
    return optimiser.alive


def test_small_steps_keep_every_group_and_a_larger_epsilon_removes_more() -> None:
    assert alive_after(1e-6, 0.0).all()
    results = [alive_after(0.3, epsilon) for epsilon in (0.0, 0.3, 0.6, 0.9)]
    counts = [int(each.sum()) for each in results]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(results))


def test_zeros_stay_zero_in_spite_of_momentum() -> None:
    network, groups = network_with_units()
    optimiser = optimiser_of(network, groups, epsilon=0.5)
    before = optimiser.alive.clone()
    for step in range(10):
        with_gradients(network, step, 1.0)
        optimiser.step()
        assert (optimiser.alive <= before).all()
        before = optimiser.alive.clone()
        left = torch.cat(list(sizes(network, groups).values()))
        assert torch.equal(left > 0, before > 0)
    assert not before.all()


def test_a_first_stage_removes_nothing_and_epsilon_rises_while_nothing_happens() -> None:
    network, groups = network_with_units()
    optimiser = optimiser_of(network, groups, lr=1e-9, first=3, every=2)
    seen = []
    for step in range(25):
        with_gradients(network, step)
        optimiser.step()
        seen.append(round(float(optimiser.state[optimiser._first]["epsilon"]), 3))
    assert seen[:4] == [0] * 4 and seen[4] == 0.1 and seen[8] == 0.3 and seen[-1] == 0.999 and optimiser.alive.all()


# The cap


def test_the_cap_counts_like_the_cost_model() -> None:
    prunable = found(tasks.load("digits", "digits_resnet"))
    draws = torch.Generator().manual_seed(0)
    cap = Cap(prunable.groups, prunable.cost, 0.0, draws)
    for _ in range(5):
        keep = {g.name: torch.rand(g.size, generator=draws) < 0.6 for g in prunable.groups}
        assert float(cap.macs(cap.counts(flat(prunable.groups, keep)))) == prunable.macs(keep)


@pytest.mark.parametrize("solver", ["hspg", "prox"])
def test_an_infinite_penalty_removes_what_the_cap_permits(solver: str) -> None:
    """All but the largest channel of each group, or just enough for the goal; then ε falls to 0."""
    task = tasks.load("digits", "digits_cnn")
    prunable = found(task)
    for removed in (0.0, 0.4, None):
        network = task.reference()
        before = sizes(network, prunable.groups)
        goal = 0.0 if removed is None else prunable.goal(removed + 1e-9)
        cap = Cap(prunable.groups, prunable.cost, goal, torch.Generator().manual_seed(0))
        optimiser: Any
        if solver == "hspg":
            optimiser = optimiser_of(network, prunable.groups, strength=1e9, cap=cap, epsilon=0.5, every=1)
        else:
            known = units(network, prunable.groups)
            params = [{"params": [*network.parameters()], "lr": 0.5}]
            optimiser = GroupProxSG(params, known, 1e9, torch.ones(known.count), cap)
        with_gradients(network)
        optimiser.step()
        keep = {name: size > 0 for name, size in sizes(network, prunable.groups).items()}
        if removed is None:
            assert {name: mask.nonzero()[:, 0].tolist() for name, mask in keep.items()} == {
                name: [int(size.argmax())] for name, size in before.items()
            }
        else:
            left = prunable.macs(keep)
            counts = cap.counts(flat(prunable.groups, keep))
            assert left <= goal < max(float(cap.macs(counts + torch.eye(len(keep))[i])) for i in range(len(keep)))
            assert solver == "prox" or float(optimiser.state[optimiser._first]["epsilon"]) == 0
