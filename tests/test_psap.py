"""PSAP-R: budgets are met exactly, protection protects, zeros are zeros, and the trap of BatchNorm is walked around."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import test_every_method
import torch
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from benchmarks.training import Callback, Recipe, fit
from methods import psap
from methods.families.structured import Prunable, allocation, analyse, channels, cost, filters
from methods.families.structured.soft import Soft
from methods.interface import Budget
from methods.psap import protective
from methods.psap.protective import Protective
from methods.psap.sparsity import scheduled, sparsity_ratios

torch.set_num_threads(1)
SHORT = Budget("short", 6.0)


def digits() -> Any:
    return tasks.load("digits", "digits_resnet")


@pytest.fixture(scope="module")
def prunable() -> Prunable:
    return analyse(digits())


def laplacian(scales: tuple[float, ...], size: int = 20_000) -> dict[str, Tensor]:
    draws = torch.distributions.Laplace(0.0, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {f"l{i}": scale * draws.sample((size // 10, 10)) for i, scale in enumerate(scales)}


def test_ratios_under_one_threshold_average_to_the_share_exactly() -> None:
    weights = laplacian((1.0, 0.5, 0.2, 0.1))
    weights["l3"] = weights["l3"][:500]  # layers count by their size
    for share in (0.1, 0.6, 0.9):
        found = sparsity_ratios(weights, "global_quantile", share, 0.3)
        total = sum(w.numel() for w in weights.values())
        assert sum(found[n] * w.numel() for n, w in weights.items()) / total == pytest.approx(share, abs=1 / total)


def test_one_threshold_cuts_laplacian_layers_by_their_scale() -> None:
    """1 − exp(−τ/scale) of each layer lies below one τ."""
    scales = (1.0, 0.5, 0.2, 0.1)
    found = sparsity_ratios(laplacian(scales), "global_quantile", 0.6, 0.3)
    thresholds = [-scale * math.log(1 - s) for scale, s in zip(scales, found.values(), strict=True)]
    assert max(thresholds) < 1.1 * min(thresholds)


def test_ratios_tell_scales_apart_only_where_they_look_at_them() -> None:
    weights = laplacian((1.0, 0.1))
    raw = sparsity_ratios(weights, "global_quantile", 0.5, 0.3)
    assert raw["l1"] > raw["l0"] + 0.2
    same = sparsity_ratios(weights, "global_quantile", 0.5, 0.3, normalised=True)
    assert same["l1"] == pytest.approx(same["l0"], abs=0.02)
    relative = sparsity_ratios(weights, "relative", 0.5, 0.3)
    assert relative["l1"] == pytest.approx(relative["l0"], abs=0.02) and 0.2 < relative["l0"] < 0.3
    absolute = sparsity_ratios(weights, "absolute", 0.5, 0.05)
    assert absolute["l1"] == pytest.approx(1 - 2.718**-0.5, abs=0.02)


def test_ties_count_in_equal_parts() -> None:
    """Layers that are zero alike have one ratio, whatever their order, and the mean is still the share."""
    half = torch.tensor([0.0, 0.0, 1.0, 2.0]).repeat(5)
    for share in (0.1, 0.25, 0.5):
        found = sparsity_ratios({"a": half, "b": half.repeat(3)}, "global_quantile", share, 0.3)
        assert found["a"] == pytest.approx(found["b"]) == pytest.approx(share)
    found = sparsity_ratios({"a": torch.ones(10), "b": torch.zeros(30)}, "global_quantile", 0.5, 0.3)
    assert found == {"a": 0.0, "b": pytest.approx(2 / 3)}


def test_the_schedule_rises_to_its_target() -> None:
    values = [scheduled(0.6, progress / 10, "cubic", 0.5) for progress in range(11)]
    assert values == sorted(values) and values[0] == 0 and values[5:] == [0.6] * 6
    assert scheduled(0.6, 0.0, "constant", 0.5) == 0.6


def protective_callback(prunable: Prunable, network: nn.Module, removed: float = 0.4, **changes: Any) -> Protective:
    config = psap.Config(schedule="constant", batch=32, **changes)
    run = test_every_method.MemoryRun(SHORT)
    goal = prunable.goal(removed)
    return Protective(network, prunable, prunable.all_kept(), goal, config, prunable.task, run, 40, 4)


def is_zero(network: nn.Module, prunable: Prunable) -> dict[str, Tensor]:
    return {group.name: ~filters(network, group).any(1) for group in prunable.groups}


def test_a_pruning_meets_its_budget_and_leaves_exact_zeros(prunable: Prunable) -> None:
    network = digits().reference()
    callback = protective_callback(prunable, network, theta=0.0)
    callback.step = 4
    callback.prune(last=False)
    found = is_zero(network, prunable)
    assert all(torch.equal(found[name], callback.zeroed[name]) for name in found)
    left = prunable.macs({name: ~mask for name, mask in found.items()})
    goal = prunable.goal(0.4)
    coarsest = max(prunable.macs(prunable.all_kept()) - prunable.macs(one) for one in one_less(prunable))
    assert goal - coarsest <= left <= goal
    assert all(not mask.all() for mask in found.values())


def one_less(prunable: Prunable) -> list[dict[str, Tensor]]:
    made = []
    for group in prunable.groups:
        keep = prunable.all_kept()
        keep[group.name][0] = False
        made.append(keep)
    return made


def test_filters_that_come_back_are_the_old_ones_and_stay(prunable: Prunable) -> None:
    network = digits().reference()
    before = {group.name: filters(network, group) for group in prunable.groups}
    callback = protective_callback(prunable, network, theta=1.5, hold=2)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    for parameter in network.parameters():
        optimiser.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
    callback.before_epoch(0, optimiser)
    callback.step = 4
    callback.prune(last=False)
    assert callback.restored > 0
    for group in prunable.groups:
        back = callback.protected[group.name] > 0
        assert before[group.name][back].any(1).all()
        assert torch.equal(filters(network, group)[back], before[group.name][back])
        momentum = optimiser.state[network.get_submodule(group.name).weight]["momentum_buffer"]  # type: ignore[index]
        zeroed_once = back | callback.zeroed[group.name]
        assert not momentum[zeroed_once].any() and (momentum[~zeroed_once] == 1).all()
    held = {name: left > 0 for name, left in callback.protected.items()}
    callback._config = replace(callback._config, theta=0.0)
    callback.prune(last=False)
    for name, mask in held.items():
        kept = int((~callback.zeroed[name]).sum())
        assert not (callback.zeroed[name] & mask).any() or kept == int((mask & ~callback.zeroed[name]).sum())
    callback.prune(last=False)
    assert not any(left.any() for left in callback.protected.values())


def test_a_filter_that_was_zero_for_long_comes_back_as_it_was(prunable: Prunable) -> None:
    """Hard mode: at the second pruning the backup is that of the first, not the zeros since."""
    network = digits().reference()
    before = {group.name: filters(network, group) for group in prunable.groups}
    callback = protective_callback(prunable, network, theta=0.0, mode="hard")
    callback.step = 4
    callback.prune(last=False)
    gone = {name: mask.clone() for name, mask in callback.zeroed.items()}
    callback._config = replace(callback._config, theta=0.01)
    callback.step = 8
    callback.prune(last=False)
    again = 0
    for group in prunable.groups:
        back = gone[group.name] & ~callback.zeroed[group.name]
        again += int(back.sum())
        assert torch.equal(filters(network, group)[back], before[group.name][back])
    assert again > 0


def test_what_is_cut_is_what_the_last_pruning_set_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Protective] = []

    class Watched(Protective):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.append(self)

    monkeypatch.setattr(psap, "Protective", Watched)
    monkeypatch.setattr(protective, "RAMP", 1.0)  # the last pruning is below the target, were it not the last
    (point,) = points(targets=(0.4,), prunings=3)
    (callback,) = seen
    network = bitstream.decode(bitstream.encode(point))
    for name, mask in callback.zeroed.items():
        assert network.get_submodule(name).out_channels == int((~mask).sum())
    left = callback._prunable.macs({name: ~mask for name, mask in callback.zeroed.items()})
    assert left <= callback._goal


def test_biases_come_back_with_their_filters() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(144, 10)
    )
    task: Any = replace(
        tasks.load("digits", "digits_cnn"),
        load_state=network.state_dict,  # type: ignore[type-var]
    )
    found = channels.find(network, task.prepare(task.calibration(1).inputs))
    example = task.prepare(task.calibration(1).inputs)
    own = Prunable(task, found, cost.measure(network, found, example))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    callback = protective_callback(own, network, removed=0.3, theta=0.01)
    callback.step = 4
    callback.prune(last=False)
    assert callback.restored > 0
    back = callback.protected["0"] > 0
    for name in ("0.weight", "0.bias"):
        assert torch.equal(network.state_dict()[name][back], before[name][back])
    assert not network.state_dict()["0.bias"][callback.zeroed["0"]].any()


def test_protection_gives_way_where_the_budget_needs_it(prunable: Prunable) -> None:
    network = digits().reference()
    callback = protective_callback(prunable, network, theta=0.0)
    for left in callback.protected.values():
        left.fill_(5)
    callback.step = 4
    callback.prune(last=False)
    assert prunable.macs({name: ~mask for name, mask in callback.zeroed.items()}) <= prunable.goal(0.4)
    group = prunable.groups[0]
    norms = filters(digits().reference(), group).norm(dim=1)
    zeroed = callback.zeroed[group.name]
    assert norms[zeroed].max() <= norms[~zeroed].min()


def test_nothing_comes_back_at_the_last_pruning(prunable: Prunable) -> None:
    callback = protective_callback(prunable, digits().reference(), theta=0.01)
    callback.step = 40
    callback.prune(last=True)
    assert not callback.restored
    callback.prune(last=False)
    assert callback.restored


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_zeros_stay_in_hard_mode_and_grow_in_soft_mode(prunable: Prunable, mode: Any) -> None:
    """With momentum and weight decay, and in training as it is: what was zero after a pruning is looked at three steps on."""
    network, task = digits().reference(), digits()
    callback = protective_callback(prunable, network, theta=0.0, mode=mode)
    seen: list[bool] = []

    class Watched(Callback):
        def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
            callback.before_epoch(epoch, optimiser)

        def after_step(self) -> None:
            callback.after_step()
            if callback.step % 4 == 3 and callback.step > 4:
                now = is_zero(network, prunable)
                seen.append(all(bool(now[name][mask].all()) for name, mask in callback.zeroed.items()))

    fit(network, task, test_every_method.MemoryRun(SHORT), Recipe(2.0, 0.05), "watched", callback=Watched())
    assert seen and all(zero == (mode == "hard") for zero in seen)


def test_without_signal_and_protection_it_is_soft_filter_pruning(prunable: Prunable, monkeypatch: Any) -> None:
    """Equal ratios in all layers, no protection, a constant schedule: filter for filter what `Soft` does."""
    from methods.psap import protective

    monkeypatch.setattr(protective, "sparsity_ratios", lambda weights, *_: dict.fromkeys(weights, 1.0))
    networks = [digits().reference() for _ in range(2)]
    goal = prunable.goal(0.4)

    def choose(network: nn.Module) -> dict[str, Tensor]:
        return allocation.same_share(prunable, prunable.all_kept(), goal, lambda g: filters(network, g).norm(dim=1))

    ours = protective_callback(prunable, networks[0], theta=0.0, adaptation=1.0)
    theirs = Soft(networks[1], prunable, choose, 4)
    for _ in range(4):
        ours.after_step()
        theirs.after_step()
    for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_permuted_layer_is_pruned_alike(prunable: Prunable) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    network, permuted = digits().reference(), digits().reference()
    block = permuted.layer2[1]
    with torch.no_grad():
        block.conv1.weight.copy_(network.layer2[1].conv1.weight[order])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(block.bn1, name).copy_(getattr(network.layer2[1].bn1, name)[order])
        block.conv2.weight.copy_(network.layer2[1].conv2.weight[:, order])
    both = []
    for each in (network, permuted):
        callback = protective_callback(prunable, each, theta=2.0)
        callback.step = 4
        callback.prune(last=False)
        both.append(callback.zeroed)
    assert torch.equal(both[1]["layer2.1.conv1"], both[0]["layer2.1.conv1"][order])
    assert all(torch.equal(both[0][n], both[1][n]) for n in both[0] if n != "layer2.1.conv1")


def points(**changes: Any) -> list[Any]:
    return list(psap.compress(digits(), psap.Config(**changes), test_every_method.MemoryRun(SHORT)))


def test_what_is_left_is_what_the_notes_say() -> None:
    found = points(targets=(0.3, 0.5), statistic="taylor", theta=1.2)
    x = digits().prepare(digits().validation.inputs[:1])
    dense = measure.macs(digits().reference(), x)
    for point in found:
        network = bitstream.decode(bitstream.encode(point))
        assert measure.macs(network, x) <= (1 - point.point["removed"]) * dense
        for name, size, kept in point.notes["layers"]:
            assert 1 <= kept <= size and network.get_submodule(name).out_channels == kept
    assert found[0].notes["restored"] > 0


def test_from_scratch_and_hard_and_branches() -> None:
    (point,) = points(targets=(0.4,), start="scratch", mode="hard", where="branches")
    assert bitstream.bytes_by_role(bitstream.encode(point))["indices"] > 0


def test_no_weight_below_an_absolute_threshold_is_an_error() -> None:
    with pytest.raises(MethodError, match=r"no weight is below the absolute threshold: raise `level`"):
        points(threshold="absolute", level=1e-30)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"threshold": "median"}, "Invalid enum value 'median' - at `$.threshold`"),
        ({"level": 0.0}, "> 0.0 - at `$.level`"),
        ({"level": math.nan}, "at `$.level`"),
        ({"level": math.inf}, "at `$.level`"),
        ({"adaptation": 0.0}, "> 0.0 - at `$.adaptation`"),
        ({"adaptation": 1.1}, "<= 1.0 - at `$.adaptation`"),
        ({"statistic": "hessian"}, "Invalid enum value 'hessian' - at `$.statistic`"),
        ({"mode": "mild"}, "Invalid enum value 'mild' - at `$.mode`"),
        ({"schedule": "linear"}, "Invalid enum value 'linear' - at `$.schedule`"),
        ({"start": "middle"}, "Invalid enum value 'middle' - at `$.start`"),
        ({"pulse": 0}, ">= 1 - at `$.pulse`"),
        ({"hold": -1}, ">= 0 - at `$.hold`"),
        ({"theta": -1.0}, ">= 0.0 - at `$.theta`"),
        ({"theta": math.nan}, "at `$.theta`"),
        ({"prunings": 0}, ">= 1 - at `$.prunings`"),
        ({"lr": -1.0}, "> 0.0 - at `$.lr`"),
        ({"targets": (0.5, 0.3)}, "targets has to rise, from the largest file to the smallest"),
    ],
)
def test_settings_that_can_not_be_followed(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(complaint)):
        msgspec.convert(changes, psap.Config)
