"""Funnel regularisation: exact chains, the penalty and its proximal step, gates that close, and what is removed by them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import test_every_method as kit
import torch
from torch import Tensor, nn

from benchmarks import bitstream, networks, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from methods import funnel
from methods.funnel.closing import Closing, Optimise, open_gates
from methods.funnel.factors import factorised, layers, recomposed
from methods.funnel.gated import Gated, GatedConv2d, gated
from methods.funnel.penalty import critical, prox
from methods.funnel.penalty import funnel as penalty
from methods.funnel.ranks import Ranks
from methods.interface import Budget

torch.set_num_threads(1)


def seeded(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small() -> nn.Module:
    """Convolutions of every kind: 3×3 with stride and dilation, 1×1 with stride, a bias, and a depthwise one."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 6, 1, stride=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 9, 3, padding=2, dilation=2, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(9, 4),
    ).eval()


# The penalty


def test_values_and_slopes_of_the_funnel() -> None:
    u = torch.tensor([0.001, 0.01, 0.1, 1.0], requires_grad=True)
    found = penalty(u, torch.tensor(0.1))
    found.sum().backward()
    assert found.tolist() == pytest.approx([0.0099, 0.0909, 0.5, 0.9091], abs=5e-5)
    assert u.grad is not None
    assert u.grad.tolist() == pytest.approx([9.803, 8.264, 2.5, 0.0826], abs=5e-4)
    zero = torch.zeros(1, requires_grad=True)
    penalty(zero, torch.tensor(0.1)).backward()
    assert zero.grad == 0


def test_the_proximal_step_is_the_best_point_of_a_grid() -> None:
    """On both sides of the threshold, of both kinds, and for either sign."""
    grid = torch.linspace(-3, 3, 600_001, dtype=torch.float64)
    for tau, width in ((0.02, 1.0), (0.5, 0.1), (0.5, 1.0), (1e-4, 0.01), (0.5, 3.0)):
        kink = tau / width if math.sqrt(2 * tau) <= width else math.sqrt(2 * tau) - width / 2
        values = [0.0, 0.3 * kink, 0.999 * kink, 1.001 * kink, -1.3 * kink, 1.7, -2.0]
        v, t, c = (torch.tensor(x, dtype=torch.float64) for x in (values, tau, width))
        found = prox(v, t, c)
        assert (found == 0).tolist() == [abs(value) <= kink for value in values]
        for value, x in zip(values, found.tolist(), strict=True):
            costs = (grid - value).square() / 2 + tau * grid.abs() / (width + grid.abs())
            ours = (x - value) ** 2 / 2 + tau * abs(x) / (width + abs(x))
            assert ours <= float(costs.min()) + 1e-9, (tau, width, value)


def test_narrow_funnels_threshold_and_wide_ones_shrink() -> None:
    v, tau = torch.linspace(-2, 2, 40), 0.5
    hard = prox(v, torch.tensor(tau), torch.tensor(1e-6))
    assert torch.allclose(hard, torch.where(v.abs() > math.sqrt(2 * tau) + 1e-3, v, 0.0), atol=1e-4)
    soft = prox(v, torch.tensor(tau * 1e4), torch.tensor(1e4))
    assert torch.allclose(soft, v.sign() * (v.abs() - tau).clamp_min(0), atol=1e-3)


def test_the_critical_penalty_is_the_least_that_closes_a_gate() -> None:
    v = drawn(500).double()
    for width in (0.01, 0.3, 5.0):
        c = torch.tensor(width, dtype=torch.float64)
        least = critical(v, c)
        assert not prox(v, least * 1.001, c).any() and (prox(v, least * 0.999, c) != 0).all()


# Exact chains


@pytest.mark.parametrize("balanced", [False, True])
def test_full_ranks_do_not_change_the_network(balanced: bool) -> None:
    network = seeded(small)
    chains = gated(network, balanced)
    assert list(chains.layers) == ["2", "4", "7"]
    x = drawn(5, 3, 17, 17)
    assert torch.allclose(chains.network(x), network(x), atol=1e-5)
    for path, layer in chains.layers.items():
        exact = recomposed(factorised(layer, path, balanced))
        assert torch.allclose(exact, layer.weight.double(), atol=1e-12)


def test_gates_are_norms_of_factors_with_the_singular_values_of_both_modes() -> None:
    layer = seeded(lambda: nn.Conv2d(7, 9, 3))
    first, core, last = factorised(layer, "x")
    weight = layer.weight.detach().double()
    identity = torch.eye(7, dtype=torch.float64)
    assert torch.allclose(first[:, :, 0, 0] @ first[:, :, 0, 0].T, identity, atol=1e-9)
    assert torch.allclose(last[:, :, 0, 0].T @ last[:, :, 0, 0], torch.eye(9, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(core.flatten(1).norm(dim=1), torch.linalg.svdvals(weight.flatten(1)))
    inputs = torch.linalg.svdvals(weight.transpose(0, 1).flatten(1))
    assert torch.allclose(core.transpose(0, 1).flatten(1).norm(dim=1), inputs)
    assert torch.allclose(factorised(layer, "x", True)[0].flatten(1).norm(dim=1), inputs.sqrt())
    pair = factorised(seeded(lambda: nn.Conv2d(7, 9, 1)), "x")
    assert len(pair) == 2 and (pair[0].flatten(1).norm(dim=1).diff() <= 0).all()


def test_ranks_are_numerical_ones() -> None:
    layer = nn.Conv2d(8, 8, 3)
    with torch.no_grad():
        layer.weight.copy_(recomposed([drawn(3, 8, 1, 1), drawn(4, 3, 3, 3, seed=1), drawn(8, 4, 1, 1, seed=2)]))
    shapes = [tuple(kernel.shape) for kernel in factorised(layer, "x")]
    assert shapes == [(3, 8, 1, 1), (4, 3, 3, 3), (8, 4, 1, 1)]
    with pytest.raises(MethodError, match="all zero"):
        factorised(nn.Conv2d(2, 2, 3).requires_grad_(False).apply(lambda m: nn.init.zeros_(m.weight)), "x")


def test_a_direction_of_norm_zero_is_no_division_by_zero() -> None:
    conv = GatedConv2d(torch.zeros(2, 3, 1, 1), 1, 0, 1)
    conv(drawn(1, 3, 4, 4)).sum().backward()
    assert not conv.kernel().any() and torch.isfinite(conv.gates.grad).all()  # type: ignore[arg-type]


# Ranks and their cost


@pytest.mark.parametrize(
    ("depth", "gates", "pairs", "values", "macs"),
    [(18, 7680, 448, 14.303e6, 2.235e9), (50, 16960, 9408, 31.967e6, 5.309e9)],
)
def test_gates_and_costs_of_resnets_at_full_rank(
    depth: int, gates: int, pairs: int, values: float, macs: float
) -> None:
    """By hand, from shapes alone: 224×224 images, 1,000 classes."""
    with torch.device("meta"):
        network = networks.build("resnet", {"depth": depth, "classes": 1000, "stem": "imagenet"})
    found = layers(network)
    sizes = {path: _full(layer) for path, layer in found.items()}
    assert sum(map(sum, sizes.values())) == gates
    assert sum(sizes[path][0] for path, layer in found.items() if layer.kernel_size == (1, 1)) == pairs
    every = [size for each in sizes.values() for size in each]
    ranks = Ranks(network, found, every, torch.zeros(1, 3, 224, 224, device="meta"))
    counts = torch.tensor(every, dtype=torch.float64)
    assert not ranks.chains(counts).any() and float(ranks.macs(counts)) == ranks.dense
    chained, stored = (float(ranks.chain_costs(counts, which).sum()) for which in ("macs", "values"))
    assert chained + ranks.rest == pytest.approx(macs, rel=5e-4)
    others = sum(p.numel() for p in network.parameters()) - sum(layer.weight.numel() for layer in found.values())
    assert stored + others == pytest.approx(values, rel=5e-5)
    if depth == 18:
        assert float(ranks.macs((counts / 2).floor())) == pytest.approx(0.758e9, rel=1e-3)


def _full(layer: nn.Conv2d) -> list[int]:
    if layer.kernel_size == (1, 1):
        return [min(layer.in_channels, layer.out_channels)]
    return [layer.in_channels, layer.out_channels]


def ranks_of(network: nn.Module, chains: Gated, x: Tensor) -> Ranks:
    return Ranks(network, chains.layers, [len(gate) for gate in chains.gates()], x)


def test_costs_are_those_of_the_plain_network_and_chains_are_cheaper() -> None:
    """For random gates: the multiply-accumulates of what is built, and never more values or multiply-accumulates than dense."""
    network, x = seeded(small), drawn(1, 3, 16, 16)
    for seed, share in enumerate((0.1, 0.5, 0.8, 0.95)):
        chains = gated(network)
        ranks = ranks_of(network, chains, x)
        close(chains, torch.rand(len(ranks.link), generator=torch.Generator().manual_seed(seed)) < share)
        alive = ranks.counts(open_gates(chains.gates()))
        slim = chains.slim(dict(zip(ranks.paths, ranks.chains(alive).tolist(), strict=True)))
        plain = slim.realise(_task(network), network)
        assert measure.macs(plain, x) == int(ranks.macs(alive)) <= ranks.dense
        assert sum(p.numel() for p in plain.parameters()) <= sum(p.numel() for p in network.parameters())
        assert torch.allclose(plain(x), chains.network(x), atol=1e-5), "closed gates change nothing"


def _task(network: nn.Module) -> Any:
    """What `Slim.realise` needs: an architecture that is built anew."""
    return type("Task", (), {"architecture": "small", "arguments": {}})


@pytest.fixture(autouse=True)
def _architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    build = networks.build
    monkeypatch.setattr(
        networks, "build", lambda name, arguments: small() if name == "small" else build(name, arguments)
    )


@torch.no_grad()
def close(chains: Gated, closed: Tensor) -> None:
    """Set gates to zero, but not the first of a convolution."""
    for gate, mask in zip(chains.gates(), closed.split([len(gate) for gate in chains.gates()]), strict=True):
        mask[0] = False
        gate[mask] = 0


def test_a_chain_with_fewer_values_but_more_multiply_accumulates_is_not_used() -> None:
    """Before a stride, the first convolution of the chain sees four times as many pixels."""
    network = seeded(small)
    ranks = ranks_of(network, gated(network), drawn(1, 3, 16, 16))
    counts = torch.tensor([8, 9, 1, 1, 1], dtype=torch.float64)
    assert float(ranks.chain_costs(counts, "values")[0]) < network[2].weight.numel()
    assert float(ranks.chain_costs(counts, "macs")[0]) > 64 * network[2].weight.numel()
    assert ranks.chains(counts).tolist() == [False, True, True]


def test_gates_that_a_goal_needs() -> None:
    """Against one gate after the other."""
    network, x = seeded(small), drawn(1, 3, 16, 16)
    ranks = ranks_of(network, gated(network), x)
    order = torch.randperm(len(ranks.link), generator=torch.Generator().manual_seed(0))
    alive = torch.ones(len(order))
    costs = [float(ranks.macs(ranks.counts(alive)))]
    for gate in order:
        alive[gate] = 0
        costs.append(float(ranks.macs(ranks.counts(alive))))
    for goal in (0.9 * ranks.dense, 0.6 * ranks.dense, 0.5 * ranks.dense, ranks.dense):
        assert int(ranks.needed(order, [goal])) == next(count for count, cost in enumerate(costs) if cost <= goal)


# Closing gates


def closing_of(chains: Gated, ranks: Ranks, share: float, strength: float = 1e-9, variant: Any = "relative") -> Closing:
    return Closing(chains.gates(), ranks, (1 - share) * ranks.dense, strength, variant, 10)


@pytest.mark.parametrize("variant", ["relative", "annealed"])
def test_the_goal_is_met_by_the_fewest_zeros_and_every_layer_stays(variant: Any) -> None:
    network, x = seeded(small), drawn(1, 3, 16, 16)
    for share in (0.1, 0.25, 0.35):
        chains = gated(network)
        ranks = ranks_of(network, chains, x)
        closing = closing_of(chains, ranks, share, variant=variant)
        for _ in range(10):
            closing.after_step()
        alive = open_gates(chains.gates())
        counts = ranks.counts(alive)
        assert (counts >= 1).all() and float(ranks.macs(counts)) <= closing._goal
        again = [
            float(ranks.macs(ranks.counts(alive | (torch.arange(len(alive)) == gate)))) for gate in (~alive).nonzero()
        ]
        assert max(again) > closing._goal, "the last gate was needed"


def test_a_strong_penalty_closes_no_more_than_the_goal_needs_and_a_weak_one_no_fewer() -> None:
    network, x = seeded(small), drawn(1, 3, 16, 16)
    found = []
    for strength in (1e-9, 1e6):
        chains = gated(network)
        closing = closing_of(chains, ranks_of(network, chains, x), 0.3, strength)
        closing._rate = 0.01
        closing.close(1.0)
        found.append(open_gates(chains.gates()))
    assert torch.equal(*found) and not found[0].all()


@pytest.mark.parametrize(("variant", "strength"), [("relative", 0.01), ("annealed", 0.002)])
def test_gates_that_are_not_due_feel_the_script_s_penalty_alone(variant: Any, strength: float) -> None:
    """The first step of 40,000 has to close some gates; those that stay open lose what `strength` takes, and no more."""
    task = tasks.load("digits", "digits_resnet")
    chains = gated(task.reference())
    ranks = ranks_of(task.reference(), chains, task.prepare(task.validation.inputs[:1]))
    closing = Closing(chains.gates(), ranks, 0.5 * ranks.dense, strength, variant, 40_000)
    closing._rate = 0.01
    before = torch.cat([gate.detach().clone() for gate in chains.gates()])
    closing.after_step()
    after = torch.cat([gate.detach() for gate in chains.gates()])
    alive = after != 0
    width = 0.01 * before if variant == "relative" else torch.full_like(before, 10.0)
    weight = before if variant == "relative" else torch.ones_like(before)
    expected = prox(before, 0.01 * strength * weight, width)
    assert 0 < int((~alive).sum()) < 0.1 * len(alive)
    stayed = after == before  # the last gate of a convolution
    assert torch.allclose(after[alive & ~stayed], expected[alive & ~stayed], rtol=1e-5)
    assert (after[alive] > 0.999 * before[alive]).all()
    assert torch.equal(closing.forced, ~alive & (expected != 0))


def test_only_gates_are_penalised_and_they_learn_ten_times_as_fast() -> None:
    network = seeded(small)
    chains = gated(network)
    optimiser = Optimise(chains.gates(), 0.9)([{"params": [*chains.network.parameters()], "lr": 0.01}])
    others, gates = optimiser.param_groups
    assert (others["lr"], gates["lr"]) == (0.01, 0.1)
    assert {id(p) for p in gates["params"]} == {id(gate) for gate in chains.gates()}
    assert len(others["params"]) + len(gates["params"]) == len([*chains.network.parameters()])
    assert sum(map(len, chains.gates())) == 8 + 12 + 6 + 6 + 9
    ranks = ranks_of(network, chains, drawn(1, 3, 16, 16))
    before = {name: p.detach().clone() for name, p in chains.network.named_parameters()}
    closing = closing_of(chains, ranks, 0.4, strength=0.1)
    closing.before_step(optimiser)
    closing.after_step()
    changed = {name for name, p in chains.network.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all(name.endswith("gates") for name in changed)


def test_true_ranks_are_found() -> None:
    """A layer of known ranks with noise: for a range of penalties, the gates beyond the true ranks close and no others."""
    true = recomposed([drawn(3, 10, 1, 1), drawn(4, 3, 3, 3, seed=1), drawn(12, 4, 1, 1, seed=2)])
    true = true / true.flatten(1).norm()
    network = seeded(
        lambda: nn.Sequential(nn.Conv2d(10, 10, 1, bias=False), nn.Conv2d(10, 12, 3, padding=1, bias=False))
    )
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(10)[:, :, None, None])
        network[1].weight.copy_(true + 0.003 * drawn(12, 10, 3, 3, seed=3))
    x = drawn(16, 10, 8, 8, seed=4)
    y = nn.functional.conv2d(x, true, padding=1)
    for strength in (0.01, 0.03, 0.1):
        chains = gated(network, balanced=True)
        ranks = ranks_of(network, chains, x[:1])
        optimiser = Optimise(chains.gates(), 0.0)([{"params": [*chains.network.parameters()], "lr": 0.1}])
        closing = Closing(chains.gates(), ranks, 0.1 * ranks.dense, strength, "relative", 10**9)
        for _ in range(200):
            optimiser.zero_grad()
            (chains.network(x) - y).square().sum(1).mean().div(2).backward()
            closing.before_step(optimiser)
            optimiser.step()
            closing.after_step()
        assert [int((gate != 0).sum()) for gate in chains.gates()] == [3, 4]


# The whole method


def test_files_have_the_ranks_and_costs_that_the_notes_tell() -> None:
    task = tasks.load("digits", "digits_resnet")
    config = funnel.Config(targets=(0.5,), gates="balanced")
    (point,) = funnel.compress(task, config, kit.MemoryRun(Budget("short", 1.0)))
    network = bitstream.decode(bitstream.encode(point))
    x = task.prepare(task.validation.inputs[:1])
    assert 0.45 < measure.macs(network, x) / measure.macs(task.reference(), x) <= 0.5
    layers_of: Any = point.notes["layers"]
    for path, inner, _, outer, _, chained in layers_of:
        module = network.get_submodule(path)
        assert isinstance(module, nn.Conv2d) != bool(chained)
        if chained:
            assert tuple(module[1].weight.shape[:2]) == (outer, inner)
    assert {chained for *_, chained in layers_of} == {0, 1} or all(chained for *_, chained in layers_of)


@pytest.mark.parametrize(("lr", "last"), [(None, 3e-5), (0.02, 0.02)])
def test_the_last_stage_has_its_own_learning_rate_and_batch(
    monkeypatch: pytest.MonkeyPatch, lr: float | None, last: float
) -> None:
    """Unless the budget has a learning rate, which replaces that of all stages."""
    seen: list[tuple[float, int]] = []
    fit = funnel.fit

    def watch(network: nn.Module, task: Any, run: Any, recipe: Any, *rest: Any) -> None:
        seen.append((recipe.lr, recipe.batch))
        fit(network, task, run, recipe, *rest)

    monkeypatch.setattr(funnel, "fit", watch)
    config = funnel.Config(targets=(0.3,), batch=64, finetune_lr=3e-5, finetune_batch=50)
    next(iter(funnel.compress(tasks.load("digits", "digits_cnn"), config, kit.MemoryRun(Budget("short", 0.2, lr)))))
    assert seen == [(lr or 0.001, 64)] * 2 + [(last, 50)]


def test_a_share_that_cannot_be_removed_is_refused() -> None:
    config = funnel.Config(targets=(0.999,))
    with pytest.raises(MethodError, match=r"with rank 1 everywhere, .* remain; ask for less"):
        next(iter(funnel.compress(tasks.load("digits", "digits_cnn"), config, kit.MemoryRun(kit.SHORT))))
    reason = funnel.unsupported(
        tasks.load("digits_features", next(iter(tasks.get("digits_features").NETWORKS))), funnel.Config()
    )
    assert reason is not None and "needs a second convolution" in reason
