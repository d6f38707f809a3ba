"""A changed network that starts where it was changed: the same to the bit as one that starts from the images."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from test_hierarchical import RUN
from torch import Tensor, nn

from benchmarks import networks, tasks
from methods import hierarchical
from methods.families.structured import analyse
from methods.hierarchical import gradients, pruning
from methods.hierarchical.resuming import LIMIT, Resumed

BATCHES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)).split(4)
PARTS = ["conv1", "bn1", "layer1.0", "layer2.0", "linear"]


def ran(network: nn.Module, resumed: Resumed, changed: set[str] | None, *parts: str) -> tuple[Tensor, set[str]]:
    """What the network puts out, and which of its parts it ran."""
    seen: set[str] = set()

    def note(path: str, *_: Any) -> None:
        seen.add(path)

    hooks = [
        network.get_submodule(part).register_forward_hook(functools.partial(note, part)) for part in parts or PARTS
    ]
    with torch.no_grad(), resumed.since(changed, network):
        outputs = torch.cat([network(images) for images in BATCHES])
    for hook in hooks:
        hook.remove()
    return outputs, seen


@torch.no_grad()
def logits(network: nn.Module) -> Tensor:
    return torch.cat([network(images) for images in BATCHES])


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return networks.build("digits_resnet", {}).eval()


def test_what_runs_before_the_change_does_not_run_again() -> None:
    dense, resumed = network(), Resumed(6)
    _, seen = ran(dense, resumed, set())
    assert seen == set(PARTS)  # nothing was accepted yet
    resumed.accept()
    for layer, after in (("layer2.0.conv2", 3), ("layer1.0.bn1", 2), ("conv1", 0)):
        with torch.no_grad():
            dense.get_submodule(layer).get_parameter("weight").mul_(1.5)
        outputs, seen = ran(dense, resumed, {layer, "linear"})
        resumed.accept()
        assert seen == set(PARTS[after:])
        assert torch.equal(outputs, logits(dense))
    assert ran(dense, resumed, None)[1] == set(PARTS)


def test_what_is_refused_leaves_no_trace() -> None:
    dense, resumed = network(), Resumed(6)
    ran(dense, resumed, set())
    resumed.accept()
    wanted = logits(dense)
    kept = dense.layer1[0].conv1.weight.detach().clone()
    with torch.no_grad():
        dense.layer1[0].conv1.weight.zero_()
        assert not torch.equal(ran(dense, resumed, {"layer1.0.conv1"})[0], wanted)
        dense.layer1[0].conv1.weight.copy_(kept)
    assert torch.equal(ran(dense, resumed, {"linear"})[0], wanted)


def test_with_little_room_more_runs_again() -> None:
    """There is room for the first part, and for one behind two that are as large: what they change is seen."""
    dense, resumed = network(), Resumed(6, 6 * 4 * (8 * 8 * 8 + 16 * 4 * 4))
    ran(dense, resumed, set())
    resumed.accept()
    for layer, kept in (("layer1.0.conv1", {"conv1"}), ("linear", {"conv1", "layer2.0"})):
        with torch.no_grad():
            dense.get_submodule(layer).get_parameter("weight").mul_(0.5)
        outputs, seen = ran(dense, resumed, {layer})
        resumed.accept()
        assert seen == set(PARTS) - kept
        assert torch.equal(outputs, logits(dense))


def test_a_rectifier_may_work_in_place() -> None:
    modules = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3), nn.Flatten()]
    dense, resumed = nn.Sequential(*modules).eval(), Resumed(6)
    ran(dense, resumed, None, "0", "1", "2", "3")
    resumed.accept()
    with torch.no_grad():
        dense[3].weight.mul_(2)
    outputs, seen = ran(dense, resumed, {"3"}, "0", "1", "2", "3")
    assert torch.equal(outputs, logits(dense)) and seen == {"3"}


def test_all_of_a_network_comes_back_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the parts that were out of its sight when it ran."""
    task = tasks.load("digits", "digits_resnet")
    prunable = analyse(task)
    judge, last, keep = pruning.Judge(prunable, pruning.CPU), prunable.groups[-1], prunable.all_kept()
    judge.restored(task.reference(), keep, None)
    judge.accept()
    calls: list[tuple[Any, bool]] = []
    to = nn.Module.to

    def noted(module: nn.Module, *place: Any, **more: Any) -> nn.Module:
        calls.append((place, len(list(module.modules())) == whole))
        return to(module, *place, **more)

    network = task.reference()
    whole = len(list(network.modules()))
    monkeypatch.setattr(nn.Module, "to", noted)
    judge.restored(network, keep, last)
    assert not all(complete for _, complete in calls) and calls[-1] == (("cpu",), True)


@pytest.mark.parametrize(
    ("name", "where"), [("digits_resnet", "inner"), ("digits_resnet", "streams"), ("digits_cnn", "inner")]
)
def test_the_loop_ends_with_the_same_network(name: str, where: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights and statistics are equal to the bit, and so is the judge's last verdict."""
    task = tasks.load("digits", name)
    prunable = analyse(task, where)
    found = gradients.grams(task.reference(), prunable.groups, task, RUN, 16, 16, "drawn")

    def pruned(limit: int) -> pruning.State:
        monkeypatch.setattr(pruning, "Resumed", lambda images: Resumed(images, limit))
        state = pruning.State(task.reference(), prunable.all_kept(), found, 0.01, set(), dict.fromkeys(found, 1.0))
        floors = dict.fromkeys(found, 2)
        pruning.prune(state, prunable, prunable.goal(0.5), floors, hierarchical.Config(share=0.25), lambda *_: found)
        return state

    resumed, whole = pruned(LIMIT), pruned(0)
    assert (resumed.steps, resumed.undone, resumed.verdict) == (whole.steps, whole.undone, whole.verdict)
    assert resumed.undone > 0
    for name, tensor in whole.dense.state_dict().items():
        assert torch.equal(tensor, resumed.dense.state_dict()[name]), name
