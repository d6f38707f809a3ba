"""Residual blocks that go as a whole: found, cut, counted, and dropped by hierarchical pruning where it is asked to."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import test_every_method
import test_hierarchical as planted
import test_structured as shared
import torch
from torch import Tensor, nn

from benchmarks import bitstream, networks, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from methods import hierarchical
from methods.families.structured import Prunable, analyse, blocks, channels, cost, surgery
from methods.families.structured.channels import Where
from methods.hierarchical import gradients, pruning
from methods.interface import Budget, Compressed

torch.set_num_threads(1)


def test_blocks_are_what_a_network_could_do_without() -> None:
    """Those that change the shape are none, nor is anything in a plain network; nested modules count once."""
    from torchvision import models

    def found(network: nn.Module, x: Tensor) -> dict[str, list[str]]:
        return blocks.find(network.eval(), channels.find(network, x), x)

    cifar = found(networks.build("cifar_resnet", {"depth": 20}), shared.images("cifar_resnet", 1))
    same_width = ("layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2")
    assert cifar == {path: [f"{path}.conv1"] for path in same_width}
    bottlenecks = found(networks.build("resnet", {"depth": 50, "stem": "cifar"}), shared.images("resnet", 1))
    assert len(bottlenecks) == 12 and bottlenecks["layer4.2"] == ["layer4.2.conv1", "layer4.2.conv2"]
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert len(found(models.mobilenet_v2(), x)) == 10
    assert found(models.vgg11_bn(), x) == found(networks.build("digits_cnn", {}), shared.images("digits_cnn", 1)) == {}


RESIDUAL = [(name, arguments) for name, arguments in shared.NETWORKS if "resnet" in name or name == "mobilenet_v2"]


@pytest.mark.parametrize(("name", "arguments"), RESIDUAL)
@pytest.mark.parametrize("where", ["inner", "branches", "streams"])
def test_without_a_block_the_network_computes_what_a_silent_one_does(name: str, arguments: Any, where: Where) -> None:
    """Channels of the others go at the same time; what was dropped costs nothing, and comes back as zeros."""
    (network, groups), x = shared.grouped(name, arguments, where), shared.images(name)
    network = copy.deepcopy(network)
    known = blocks.find(network, groups, x[:1])
    gone = list(known)[::2]
    keep = shared.some(groups)
    for path in gone:
        keep |= {group: torch.zeros_like(keep[group]) for group in known[path]}
    task: Any = SimpleNamespace(architecture=name, arguments=arguments)
    plan = surgery.plan(network, groups, keep, known)
    narrow = plan.slim(network).realise(task, network)
    assert all(isinstance(narrow.get_submodule(path), nn.Identity) for path in gone)
    assert cost.measure(network, groups, x[:1]).macs(channels.counts(keep)) == measure.macs(narrow, x[:1])
    for path in gone:
        for module in network.get_submodule(path).modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
    wanted = shared.masked(network, groups, keep, x)
    with torch.no_grad():
        torch.testing.assert_close(narrow(x), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
        if where == "inner":
            wide = surgery.widen(task, narrow, plan)
            torch.testing.assert_close(wide(x), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("where", ["inner", "streams"])
@pytest.mark.parametrize(("budget", "epochs"), [("post-training", 0.0), ("short", 0.5)])
def test_blocks_go_first_and_the_file_is_without_them(budget: Any, epochs: float, where: Where) -> None:
    """What was dropped at one target stays so at the next if it is trained in between; its gradients are not asked for."""
    task, x = tasks.load("digits", "digits_resnet"), torch.zeros(1, 1, 8, 8)
    config = hierarchical.Config(batches=16, size=16, share=0.25, targets=(0.3, 0.5), blocks=0.5, where=where)
    before: set[str] = set()
    for point in hierarchical.compress(task, config, test_every_method.MemoryRun(Budget(budget, epochs))):
        notes = point.notes
        gone = {layer for layer, _, _, _, kept in notes["layers"] if not kept}
        assert gone and before <= gone and notes["blocks_dropped"] == len(gone - before)
        network = bitstream.decode(bitstream.encode(point))
        assert all(isinstance(network.get_submodule(layer.rpartition(".")[0]), nn.Identity) for layer in gone)
        assert measure.macs(network, x) <= (1 - point.point["removed"]) * measure.macs(task.reference(), x)
        before = gone if epochs else set()


class Verdicts(pruning.Judge):
    """A judge who looks up what he thinks of a network by the blocks that are gone from it."""

    def __init__(self, prunable: Prunable, known: dict[frozenset[str], float]) -> None:
        super().__init__(prunable, pruning.CPU)
        self.known = known

    def __call__(self, network: nn.Module) -> float:
        gone = {path for path, module in network.named_modules() if isinstance(module, nn.Identity)}
        return self.known[frozenset(path for path in gone if path.count(".") == 1)]


def test_a_block_stays_if_it_costs_too_much_after_the_others_or_more_than_is_asked_for() -> None:
    prunable = analyse(tasks.load("digits", "digits_resnet"), whole=True)
    one, two, three = "layer2.1", "layer2.2", "layer3.1"
    prunable = replace(prunable, blocks={path: prunable.blocks[path] for path in (one, two, three)})
    known = {(): 1.0, (one,): 0.98, (two,): 0.99, (three,): 0.97, (one, two): 0.9, (two, three): 0.96}
    judge = Verdicts(prunable, {frozenset(gone): verdict for gone, verdict in known.items()})

    def dropped(goal: float, most: float) -> tuple[list[str], float]:
        state = pruning.State(prunable.task.reference(), prunable.all_kept(), {}, 0.01, set(), {}, verdict=1.0)
        count = pruning.drop_blocks(state, prunable, goal, most, judge)
        gone = [path for path, inside in prunable.blocks.items() if not any(state.keep[name].any() for name in inside)]
        assert len(gone) == count == state.blocks
        return gone, state.verdict

    assert dropped(0, 0.05) == ([two, three], 0.96)
    assert dropped(0, 0.015) == ([two], 0.99)
    assert dropped(0, 0.001) == ([], 1.0)
    assert dropped(prunable.macs(prunable.all_kept()) - 1, 0.05) == ([], 1.0)


def test_a_network_without_a_block_that_could_go_is_refused() -> None:
    config = hierarchical.Config(blocks=0.1)
    with pytest.raises(MethodError, match="digits_cnn has no residual block that can be removed"):
        next(hierarchical.compress(tasks.load("digits", "digits_cnn"), config, planted.RUN))


def test_modules_that_are_no_blocks_are_not_taken_for_one() -> None:
    """Those that get or return something else, work in place, or see nothing but zeros."""

    class Odd(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind
            self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Any) -> Any:
            if self.kind == "list":
                return self.bn(self.conv(x[0]))
            if self.kind == "in place":
                return x.mul_(2).add_(self.bn(self.conv(x)))
            return (self.bn(self.conv(x)), x) if self.kind == "pair" else self.bn(self.conv(x))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.list, self.in_place, self.pair, self.zeros = map(Odd, ("list", "in place", "pair", "zeros"))
            self.classifier = nn.Linear(3, 10)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.pair(self.in_place(self.list([x])))[0]
            return self.classifier((found + self.zeros(0 * x)).mean((2, 3)))

    network, x = Network().eval(), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert blocks.find(network, channels.find(network, x, "streams"), x) == {}


def test_pivots_leave_what_the_others_span() -> None:
    """Of each planted pair one goes, then the dead and the unread; the damage is the distance from the span of the rest."""
    network = planted.net()
    planted.everything(network)
    known, kept = planted.gram(network), torch.ones(16, dtype=torch.bool)
    order, damage = gradients.cheapest(known, kept, 4, "cholesky")
    assert {7, 9} <= set(order) and all(len(pair & set(order)) == 1 for pair in ({1, 3}, {2, 5}))
    assert damage < 1e-9 * float(known.trace())
    kept[order] = False
    more, damage = gradients.cheapest(known, kept, 3, "cholesky")
    kept[more] = False
    spanned = known[:, kept] @ torch.linalg.solve(known[kept][:, kept], known[kept])
    assert damage == pytest.approx(float((known - spanned)[more, more].sum()), rel=1e-6)
    assert damage >= gradients.cheapest(known, kept, 1)[1] > 1e-6 * float(known.trace())


@functools.cache
def made(budget: Any, epochs: float, **changes: Any) -> Compressed:
    config = hierarchical.Config(batches=16, size=16, share=0.25, targets=(0.4,), **changes)
    run = test_every_method.MemoryRun(Budget(budget, epochs))
    (point,) = hierarchical.compress(tasks.load("digits", "digits_resnet"), config, run)
    return point


@pytest.mark.parametrize("changes", [{"order": "cholesky"}, {"drawn": "labels"}])
def test_the_other_choices_lead_to_networks_that_meet_the_target(changes: dict[str, Any]) -> None:
    """What looks at labels is no post-training."""
    task, x = tasks.load("digits", "digits_resnet"), torch.zeros(1, 1, 8, 8)
    plain, point = made("short", 0.05), made("short", 0.05, **changes)
    assert measure.macs(bitstream.decode(bitstream.encode(point)), x) <= 0.6 * measure.macs(task.reference(), x)
    assert bitstream.encode(plain) != bitstream.encode(point)
    if "order" not in changes:
        with pytest.raises(MethodError, match="need labels, which a budget without training does not provide"):
            made("post-training", 0.0, **changes)


def test_the_judge_counts_equal_predictions() -> None:
    task = planted.digits()
    judge, network = pruning.Judge(analyse(task), pruning.CPU), task.reference()
    assert judge(network) == 1.0
    images = task.prepare(task.validation.inputs[: pruning.JUDGES])
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        wanted = network(images).argmax(1)
        last.bias += torch.arange(len(last.bias)) / 4
        equal = (network(images).argmax(1) == wanted).float().mean()
    assert 0 < equal < 1
    assert judge(network) == float(equal)


def test_a_network_is_not_changed_by_looking_for_blocks() -> None:
    task = tasks.load("digits", "digits_resnet")
    network = task.reference()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    blocks.find(network, analyse(task).groups, torch.ones(1, 1, 8, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())
