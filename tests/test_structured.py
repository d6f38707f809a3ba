"""Structured pruning: coupled channels, networks that compute the same after surgery, and costs that are met."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import test_every_method
import torch
from torch import Tensor, nn

import benchmarks.data.vision  # noqa: F401  # makes torchvision importable
from benchmarks import bitstream, networks, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from methods import hierarchical, psap
from methods.baselines import fpgm, l1_filter, random_filter, sfp, torch_pruning, uniform_width
from methods.families.structured import Group, Prunable, allocation, analyse, channels, cost, surgery
from methods.families.structured.channels import Where
from methods.families.structured.shortcuts import is_shortcut
from methods.interface import Budget

torch.set_num_threads(1)
SHAPES = {"cifar_resnet": (3, 32, 32), "digits_cnn": (1, 8, 8), "digits_resnet": (1, 8, 8), "resnet": (3, 64, 64)}
SHAPES |= {"mobilenet_v1": (3, 32, 32), "mobilenet_v2": (3, 64, 64)}
NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("digits_cnn", {}),
    ("digits_resnet", {}),
    ("cifar_resnet", {"depth": 20}),
    ("resnet", {"depth": 18}),
    ("resnet", {"depth": 50, "stem": "cifar"}),
    ("mobilenet_v1", {"width": 0.25, "classes": 10}),
    ("mobilenet_v2", {"classes": 10}),
]
STRUCTURED = [l1_filter, sfp, fpgm, random_filter, torch_pruning, uniform_width, psap, hierarchical]
every_network = pytest.mark.parametrize(("name", "arguments"), NETWORKS)


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """BatchNorms that do something, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def images(name: str, count: int = 2) -> Tensor:
    return torch.randn(count, *SHAPES[name], generator=torch.Generator().manual_seed(1))


def some(groups: list[Group], seed: int = 0, share: float = 0.6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keep = {group.name: torch.rand(group.size, generator=generator) < share for group in groups}
    for mask in keep.values():
        mask[0] = True
    return keep


def masked(network: nn.Module, groups: list[Group], keep: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What the dense network computes if channels are set to zero wherever they can be read: an oracle without surgery.

    Inner channels and branches are zero behind their BatchNorm; streams behind every block and stem, and on both sides of
    a shortcut without parameters.
    """
    hooks = []
    for group in groups:
        mask = keep[group.name].float()
        for member in group.members:
            module = network.get_submodule(member.path)
            if isinstance(module, nn.BatchNorm2d) or (is_shortcut(module) and member.side == "out"):
                shaped = mask[member.channels.argsort()].view(1, -1, 1, 1)
                hooks.append(module.register_forward_hook(lambda _m, _x, y, mask=shaped: y * mask))
    with torch.no_grad():
        found: Tensor = network(x)
    for hook in hooks:
        hook.remove()
    return found


@functools.cache
def _grouped(name: str, arguments: tuple[tuple[str, Any], ...], where: Where) -> tuple[nn.Module, list[Group]]:
    network = lively(networks.build(name, dict(arguments)))
    return network, channels.find(network, images(name, 1), where)


def grouped(name: str, arguments: Mapping[str, Any], where: Where) -> tuple[nn.Module, list[Group]]:
    """A lively network, shared by all tests and not to be changed, and its groups."""
    return _grouped(name, tuple(arguments.items()), where)


@every_network
@pytest.mark.parametrize("where", ["inner", "branches", "streams"])
def test_the_narrow_network_computes_what_the_masked_one_does(name: str, arguments: Any, where: Where) -> None:
    (network, groups), x = grouped(name, arguments, where), images(name)
    keep = some(groups)
    task: Any = SimpleNamespace(architecture=name, arguments=arguments)
    plan = surgery.plan(network, groups, keep)
    narrow = plan.slim(network).realise(task, network)
    with torch.no_grad():
        found = narrow(x)
    wanted = masked(network, groups, keep, x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    sizes = [sum(p.numel() for p in n.parameters()) for n in (narrow, network)]
    assert sizes[0] < 0.9 * sizes[1]

    dense = surgery.widen(task, narrow, plan)
    again = plan.slim(dense).realise(task, dense)
    assert all(
        torch.equal(a, b) for a, b in zip(narrow.state_dict().values(), again.state_dict().values(), strict=True)
    )
    if where != "streams" or not any(
        map(is_shortcut, network.modules())
    ):  # without parameters, a shortcut leads past a stage that was cut
        with torch.no_grad():
            torch.testing.assert_close(dense(x), wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@every_network
@pytest.mark.parametrize("where", ["inner", "branches", "streams"])
def test_the_cost_model_counts_what_the_network_multiplies(name: str, arguments: Any, where: Where) -> None:
    (network, groups), x = grouped(name, arguments, where), images(name, 1)
    model = cost.measure(network, groups, x)
    task: Any = SimpleNamespace(architecture=name, arguments=arguments)
    for keep in (channels.all_kept(groups), some(groups, 1), some(groups, 2, 0.2)):
        narrow = surgery.plan(network, groups, keep).slim(network).realise(task, network)
        assert model.macs(channels.counts(keep)) == measure.macs(narrow, x)


def test_coupled_channels_of_a_residual_network() -> None:
    network, x = networks.build("resnet", {"depth": 18}), images("resnet", 1)
    streams = {g.name: g for g in channels.find(network, x, "streams") if g.kind == "stream"}
    assert list(streams) == ["conv1", "layer2.0.conv2", "layer3.0.conv2", "layer4.0.conv2"]
    written = {m.path for m in streams["layer2.0.conv2"].side("out")}
    assert written == {"layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2"}
    read = {m.path for m in streams["layer2.0.conv2"].side("in")}
    assert read == {"layer2.1.conv1", "layer3.0.conv1", "layer3.0.downsample.0"}
    inner = [g.name for g in channels.find(network, x)]
    assert inner == [f"layer{s}.{b}.conv1" for s in (1, 2, 3, 4) for b in (0, 1)]
    branches = [g.name for g in channels.find(network, x, "branches") if g.kind == "branch"]
    assert "conv1" not in branches and "layer1.0.conv2" in branches


def test_a_shortcut_without_parameters_couples_nothing() -> None:
    network, x = networks.build("cifar_resnet", {"depth": 20}), images("cifar_resnet", 1)
    streams = [(g.name, g.size) for g in channels.find(network, x, "streams") if g.kind == "stream"]
    assert streams == [("conv1", 16), ("layer2.0.conv2", 32), ("layer3.0.conv2", 64)]


@pytest.mark.parametrize("name", ["vgg11_bn", "mobilenet_v2"])
def test_channels_are_followed_through_flattening_and_depthwise_layers(name: str) -> None:
    """Cut in place by hand: torch-pruning's own surgery on a copy gives the same widths."""
    from torchvision import models

    network = lively(getattr(models, name)(num_classes=10))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    groups = channels.find(network, x, "streams")
    keep = some(groups)
    for group in groups:
        removed = (~keep[group.name]).nonzero()[:, 0]
        for member in group.members:
            gone = member.entries[torch.isin(member.channels, removed)]
            if member.side == "in":
                network.get_submodule(member.path).weight.data[:, gone] = 0  # type: ignore[union-attr,index]
    with torch.no_grad():
        wanted = network(x)
    kept = surgery._kept(groups, keep)
    assert {m.path for g in groups for m in g.side("depthwise")} <= kept.keys() and len(groups) > 8
    for path, sides in kept.items():
        parent, _, last = path.rpartition(".")
        module = network.get_submodule(path)
        rows, columns = sides.get("norm", sides.get("depthwise", sides.get("out"))), sides.get("in")
        spec = surgery._narrower(module, rows, columns)
        smaller = getattr(nn, spec.kind)(**spec.arguments).eval()
        for target, source in zip(smaller.state_dict().values(), module.state_dict().values(), strict=True):
            target.copy_(surgery._select(source, rows, columns if source.ndim > 1 else None) if source.ndim else source)
        setattr(network.get_submodule(parent), last, smaller)
    with torch.no_grad():
        torch.testing.assert_close(network(x), wanted, rtol=1e-3, atol=1e-4)


class Odd(nn.Module):
    """Three convolutions with something between them through which channels can't be followed."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, groups=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=4 if kind == "groups" else 1, bias=False)
        self.linear = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = x.flip(1) if self.kind == "flip" else x.softmax(1) if self.kind == "softmax" else x
        return self.linear(self.conv2(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (
            "groups",
            "odd has no channels to prune: .*; conv2 is a convolution in 4 groups: only ordinary and depthwise ones",
        ),
        ("flip", r"the channels of conv1 can't be followed \(the narrower network computes something else\)"),
        ("softmax", r"the channels of conv1 can't be followed \(the narrower network computes something else\)"),
    ],
)
def test_channels_that_can_not_be_followed_are_not_pruned(
    kind: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = tasks.load("digits", "digits_cnn")
    monkeypatch.setattr(networks, "build", lambda *_: Odd(kind))
    network = lively(Odd(kind))
    task: Any = SimpleNamespace(
        network="odd",
        architecture="odd",
        arguments={},
        prepare=digits.prepare,
        reference=lambda: network,
        calibration=digits.calibration,
    )
    if kind == "groups":
        with pytest.raises(MethodError, match=complaint):
            analyse(task)
    else:
        prunable = analyse(task)
        assert [group.name for group in prunable.groups] == ["conv2"]
        assert re.fullmatch(complaint, *prunable.whole)


@pytest.fixture(scope="module")
def digits() -> Prunable:
    return analyse(tasks.load("digits", "digits_resnet"))


def test_a_group_without_a_channel_is_refused(digits: Prunable) -> None:
    keep = digits.all_kept()
    keep["layer2.1.conv1"][:] = False
    with pytest.raises(MethodError, match=r"all channels of layer2\.1\.conv1 would be removed: keep at least one"):
        digits.narrow(digits.task.reference(), keep)


@pytest.mark.parametrize("removed", [0.1, 0.3, 0.5, 0.7])
def test_a_share_of_macs_is_met_and_not_exceeded(digits: Prunable, removed: float) -> None:
    goal = digits.goal(removed)
    counts = allocation.shares(digits, digits.all_kept(), goal, {g.name: 1.0 for g in digits.groups})
    assert digits.cost.macs(counts) <= goal
    losses = {g.name: 1 - counts[g.name] / g.size for g in digits.groups}
    assert max(losses.values()) - min(losses.values()) <= 1 / min(g.size for g in digits.groups)
    nearly = max(digits.cost.macs({**counts, g.name: counts[g.name] + 1}) for g in digits.groups)
    assert nearly > goal


def test_shares_follow_their_weights_whatever_the_scale(digits: Prunable) -> None:
    weights = {group.name: 0.2 + 0.1 * i for i, group in enumerate(digits.groups)}
    goal = digits.goal(0.4)
    counts = allocation.shares(digits, digits.all_kept(), goal, weights)
    assert counts == allocation.shares(digits, digits.all_kept(), goal, {name: 7 * w for name, w in weights.items()})
    losses = [1 - counts[g.name] / g.size for g in digits.groups]
    slack = 1 / min(g.size for g in digits.groups)
    assert all(later >= earlier - slack for earlier, later in itertools.pairwise(losses))
    capped = allocation.shares(digits, digits.all_kept(), goal, weights, most=0.6)
    assert all(capped[g.name] >= math.ceil(0.4 * g.size) for g in digits.groups)
    with pytest.raises(MethodError, match=r"the MACs can't fall to .*: at the limits of each layer .* remain"):
        allocation.shares(digits, digits.all_kept(), digits.goal(0.7), weights, most=0.1)


def test_a_target_beyond_all_channels_is_refused(digits: Prunable) -> None:
    with pytest.raises(MethodError, match="99% of the MACs can't be removed: with one channel left of each group"):
        digits.goal(0.99)
    run = test_every_method.MemoryRun(Budget("post-training", 0.0))
    with pytest.raises(MethodError, match="99% of the MACs can't be removed"):
        next(l1_filter.compress(digits.task, l1_filter.Config(targets=(0.3, 0.99)), run))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"targets": ()}, "targets has to rise, from the largest file to the smallest, with at least one value"),
        ({"targets": (0.5, 0.3)}, "targets has to rise, from the largest file to the smallest"),
        ({"targets": (0.5, 0.5)}, "targets has to rise"),
        ({"targets": (0.0, 0.3)}, "> 0.0 - at `$.targets[0]`"),
        ({"targets": (0.3, 1.0)}, "< 1.0 - at `$.targets[1]`"),
        ({"targets": (0.3, math.nan)}, "at `$.targets[1]`"),
        ({"where": "everywhere"}, "Invalid enum value 'everywhere' - at `$.where`"),
        ({"lr": 0.0}, "> 0.0 - at `$.lr`"),
        ({"lr": math.nan}, "at `$.lr`"),
        ({"lr": math.inf}, "at `$.lr`"),
        ({"batch": 0}, ">= 1 - at `$.batch`"),
        ({"weight_decay": -1e-4}, ">= 0.0 - at `$.weight_decay`"),
        ({"weight_decay": math.nan}, "at `$.weight_decay`"),
        ({"epochs": 0}, ">= 1 - at `$.epochs`"),
    ],
)
@pytest.mark.parametrize("method", STRUCTURED)
def test_settings_that_can_not_be_followed(method: Any, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(complaint)):
        msgspec.convert(changes, method.Config)


@pytest.mark.parametrize(("depth", "dense", "drop"), [(20, 40_550_400, 53.96), (56, 125_485_056, 52.63)])
def test_the_accounting_of_soft_filter_pruning(depth: int, dense: int, drop: float) -> None:
    """What SFP counts where 0.6 of all filters stay: fractional channels; the stem and what a new stage reads shrink, too.

    Whole channels, with the stem and the stream as they are, save about as much.
    """
    network, x = networks.build("cifar_resnet", {"depth": depth}), images("cifar_resnet", 1)
    groups = channels.find(network, x, "branches")
    model = cost.measure(network, groups, x)
    full, classifier = {g.name: g.size for g in groups}, 640
    assert model.macs(full) - classifier == dense
    macs = {path: layer.macs(full) for path, layer in model.layers.items() if path != "linear"}
    both = {path for path in macs if path.endswith("conv2") or path in ("layer2.0.conv1", "layer3.0.conv1")}
    left = sum(n * (0.6 * 0.6 if path in both else 0.6) for path, n in macs.items())
    assert 100 * (1 - left / dense) == pytest.approx(drop, abs=0.005)
    kept = {g.name: round(0.6 * g.size) for g in groups}
    assert 100 * (1 - (model.macs(kept) - classifier) / dense) == pytest.approx(drop, abs=2.5)
    assert len(groups) == depth - 2


def test_the_graph_draws_no_random_number_and_gives_the_same_scores() -> None:
    """What stands for a shortcut has weights of zero: it counts in no norm."""
    import torch_pruning as library

    network, x = networks.build("cifar_resnet", {"depth": 20}), images("cifar_resnet", 1)
    state = torch.get_rng_state()
    scores = [
        {group.name: library.importance.GroupMagnitudeImportance(p=2)(theirs) for group, theirs in found}
        for found in (channels.dependencies(network, x), channels.dependencies(network, x))
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(scores[0][name], scores[1][name]) for name in scores[0])


@pytest.mark.parametrize("method", [torch_pruning, l1_filter])
def test_methods_are_deterministic_on_networks_with_shortcuts(method: Any) -> None:
    made = [[bitstream.encode(point) for point in run_of(method, 1.0, targets=(0.3,))] for _ in range(2)]
    assert made[0] == made[1]


def test_geometric_medians_by_hand() -> None:
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [50.0, 0.0]])
    assert fpgm.distances(rows, torch.ones(4, dtype=torch.bool)).tolist() == [53, 51, 51, 147]
    assert fpgm.distances(rows, torch.tensor([True, True, True, False])).tolist() == [3, 2, 3, 147]


def test_filters_of_all_writers_stand_side_by_side() -> None:
    network, x = networks.build("digits_resnet", {}), images("digits_resnet", 1)
    (stream, *_) = [g for g in channels.find(network, x, "streams") if g.kind == "stream"]
    rows = allocation.filters(network, stream)
    assert rows.shape == (8, 9 + 72)
    removed = torch.arange(8) == 3
    allocation.zero(network, stream, removed)
    assert not allocation.filters(network, stream)[3].any() and torch.equal(
        allocation.filters(network, stream)[~removed], rows[~removed]
    )


def run_of(method: Any, epochs: float, **changes: Any) -> list[Any]:
    run = test_every_method.MemoryRun(Budget("short", epochs))
    return list(method.compress(tasks.load("digits", "digits_resnet"), method.Config(**changes), run))


@pytest.mark.parametrize("method", STRUCTURED)
def test_all_methods_stand_at_the_same_macs(method: Any) -> None:
    from benchmarks.evaluation.scoring import total_score

    task = tasks.load("digits", "digits_resnet")
    x = images("digits_resnet", 1)
    dense = measure.macs(task.reference(), x)
    fewer = {"batches": 16, "size": 16} if method is hierarchical else {}
    for point in run_of(method, 6.0, **fewer):
        network = bitstream.decode(bitstream.encode(point))
        left = measure.macs(network, x) / dense
        assert 1 - point.point["removed"] - 0.06 < left <= 1 - point.point["removed"]
        if method not in (uniform_width, random_filter) and point.point["removed"] == 0.3:
            assert total_score(network, task.validation, task) > 0.9 * len(task.validation)


def test_streams_travel_with_their_gathered_channels() -> None:
    (point,) = run_of(l1_filter, 1.0, where="streams", targets=(0.5,))
    data = bitstream.encode(point)
    assert bitstream.bytes_by_role(data)["indices"] > 0
    assert any(spec.kind == "Sequential" for spec in point.edits.values())
    (point,) = run_of(l1_filter, 1.0, where="branches", targets=(0.5,))
    assert bitstream.bytes_by_role(bitstream.encode(point))["indices"] > 0
