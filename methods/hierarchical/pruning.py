"""The loop: which layer next, which of its filters, and back if the network's decisions suffer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.structured import Group, Prunable
from benchmarks.training import reestimate
from benchmarks.training.accuracy import normalised
from methods.hierarchical.gradients import cheapest, readers, rows
from methods.interface import Task

JUDGES = 500  # validation images whose decisions are compared
SAMPLES = 128  # images over which channels are regressed on each other
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Step:
    """What a step removes of one group."""

    group: Group
    channels: list[int]


@dataclass
class State:
    """The network on its way: dense, with zeros for what is gone; Gram matrices; groups that took no more, for now.

    `traces` are those of the first Gram matrices, to which damage is compared; `agreement` is the judge's last verdict.
    """

    dense: nn.Module
    keep: dict[str, Tensor]
    grams: Mapping[str, Tensor]
    tolerance: float
    frozen: set[str]
    traces: Mapping[str, float]
    steps: int = 0
    undone: int = 0
    agreement: float = 1.0


def prune(
    state: State,
    prunable: Prunable,
    goal: float,
    floors: Mapping[str, int],
    share: float,
    compensated: bool,
    refresh: Callable[[nn.Module], Mapping[str, Tensor]],
    every: int,
    device: torch.device = CPU,
) -> None:
    """Remove filters in place until `goal` MACs are left: of the layer with the least damage per MAC saved, up to `share`.

    After each step channels that read what is gone are compensated, BatchNorm is re-estimated, and the decisions on
    validation images are compared with the reference's (no label is used): if the network agrees with it less than it
    best did, by more than the tolerance, the step is undone and the layer left alone. When no layer is left, the
    tolerance doubles. `floors` are never crossed; they have to admit `goal`. Gram matrices are taken anew every `every`
    steps. Images go through the network on `device`.
    """
    judge = Judge(prunable.task, device)
    best = state.agreement = judge(prunable.narrow(state.dense, state.keep)[0])
    while prunable.macs(state.keep) > goal:
        step = _next(state, prunable, floors, share)
        if step is None:
            state.tolerance *= 2
            state.frozen.clear()
            continue
        before = copy.deepcopy(state.dense.state_dict())
        keep = dict(state.keep)
        keep[step.group.name] = keep[step.group.name].clone()
        keep[step.group.name][step.channels] = False
        if compensated:
            compensate(
                state.dense, step.group, state.keep[step.group.name], keep[step.group.name], prunable.task, device
            )
        network, plan = prunable.narrow(state.dense, keep)
        reestimate(network.to(device), prunable.task, 250)
        found = judge(network)
        if found < best - state.tolerance:
            state.dense.load_state_dict(before)
            state.frozen.add(step.group.name)
            state.undone += 1
            continue
        best, state.agreement = max(best, found), found
        state.dense, state.keep = prunable.widen(network, plan), keep
        state.steps += 1
        if state.steps % every == 0:
            state.grams = refresh(state.dense)


def _next(state: State, prunable: Prunable, floors: Mapping[str, int], share: float) -> Step | None:
    """The step with the least damage per MAC saved; of equal ones, in the group with more to give."""
    steps = []
    now = prunable.macs(state.keep)
    counts = {name: int(mask.sum()) for name, mask in state.keep.items()}
    for group in prunable.groups:
        spare = counts[group.name] - floors[group.name]
        if spare <= 0 or group.name in state.frozen:
            continue
        take = min(max(1, int(share * group.size)), spare)
        channels, distance = cheapest(state.grams[group.name], state.keep[group.name], take)
        saved = now - prunable.cost.macs({**counts, group.name: counts[group.name] - take})
        score = distance / state.traces[group.name] / saved
        steps.append((score, -spare / group.size, Step(group, channels)))
    return min(steps, key=lambda found: found[:2])[2] if steps else None


class Judge:
    """Agreement of a network with the dense one: the share of equal decisions on validation images."""

    def __init__(self, task: Task, device: torch.device) -> None:
        split = task.validation
        self._images = normalised(split.images[:JUDGES].to(device), task)
        self._wanted = self._decisions(task.reference())

    @torch.no_grad()
    def _decisions(self, network: nn.Module) -> Tensor:
        network.to(self._images.device)
        decisions = torch.cat([network(images).argmax(1) for images in self._images.split(64)])
        network.to("cpu")
        return decisions

    def __call__(self, network: nn.Module) -> float:
        return float((self._decisions(network.eval()) == self._wanted).float().mean())


@torch.no_grad()
def compensate(
    dense: nn.Module, group: Group, before: Tensor, after: Tensor, task: Task, device: torch.device = CPU
) -> None:
    """Let the channels that stay stand in for those that go, by least squares over what each reader sees; in place.

    What a reader read of a channel that goes, it reads of the combination of the others that comes nearest to it.
    """
    inputs = _inputs(dense, group, task, device)
    kept, gone = after.nonzero()[:, 0], (before & ~after).nonzero()[:, 0]
    for path, entries in readers(dense, group):
        features = inputs[path]
        gram = (features @ features.T).cpu()
        own = gram[kept][:, kept]
        ridge = 1e-6 * own.diagonal().mean() * torch.eye(len(kept), dtype=own.dtype)
        mix = torch.linalg.solve(own + ridge, gram[kept][:, gone])  # (kept, gone)
        weight = dense.get_submodule(path).get_parameter("weight")
        read = rows(weight, entries)
        read[kept] += (mix @ read[gone].double()).to(read.dtype)
        read[gone] = 0
        _put(weight, entries, read)


def _put(weight: Tensor, entries: Tensor, read: Tensor) -> None:
    """Inverse of `rows`, into a weight."""
    turned = weight.transpose(0, 1)
    flat = turned.flatten(1).clone()
    flat[entries.flatten()] = read.view(entries.numel(), -1)
    weight.copy_(flat.view(turned.shape).transpose(0, 1))


@torch.no_grad()
def _inputs(dense: nn.Module, group: Group, task: Task, device: torch.device) -> dict[str, Tensor]:
    """What each reader of a group sees of its channels, in fp64 on `device`: (size, images · places)."""
    found: dict[str, Tensor] = {}

    def keep(path: str, entries: Tensor, seen: Tensor) -> None:
        channels = seen.transpose(0, 1).flatten(1)[entries.flatten().to(device)]
        found[path] = channels.view(len(entries), -1).double()

    hooks = [
        dense.get_submodule(path).register_forward_pre_hook(lambda _m, x, p=path, e=entries: keep(p, e, x[0]))
        for path, entries in readers(dense, group)
    ]
    images = task.calibration(min(SAMPLES, len(task.train))).images.to(device)
    dense.to(device).eval()(normalised(images, task))
    dense.to("cpu")
    for hook in hooks:
        hook.remove()
    return found
