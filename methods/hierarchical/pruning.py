"""The pruning loop: remove blocks (optional), then filters of one layer per step, and undo bad steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.training import control_variate
from benchmarks.training.batchnorm import reestimate
from methods.families.structured import Group, Keep, Prunable
from methods.families.structured.surgery import Plan
from methods.hierarchical.config import Config
from methods.hierarchical.gradients import cheapest, readers, rows
from methods.hierarchical.resuming import Resumed
from methods.interface import Task

JUDGES = 500  # validation images for judging a network
STATISTICS = 250  # training images by which BatchNorm is corrected
SAMPLES = 128  # images over which channels are regressed on each other
REFRESH = 20  # steps after which Gram matrices are computed again
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Step:
    """The filters of one group that a step removes."""

    group: Group
    channels: list[int]


@dataclass
class State:
    """The state of the loop: the dense network with zeros for removed filters, Gram matrices, and groups excluded for now.

    `traces` are those of the first Gram matrices, by which damage is normalised. `verdict` is the judge's last verdict.
    """

    dense: nn.Module
    keep: dict[str, Tensor]
    grams: Mapping[str, Tensor]
    tolerance: float
    frozen: set[str]
    traces: Mapping[str, float]
    steps: int = 0
    undone: int = 0
    blocks: int = 0
    verdict: float = 1.0


def prune(
    state: State,
    prunable: Prunable,
    goal: float,
    floors: Mapping[str, int],
    config: Config,
    refresh: Callable[[nn.Module, Keep], Mapping[str, Tensor]],
    device: torch.device = CPU,
) -> None:
    """Remove filters in place until at most `goal` MACs are left.

    Each step prunes the layer with the least damage per MAC saved. After each step, the readers of removed channels are
    compensated, BatchNorm is corrected, and the network is judged on validation images. If it is worse than the best
    so far by more than the tolerance, the step is undone and the layer excluded. When no layer is left, the tolerance
    doubles. No layer is pruned below its floor in `floors`, which must allow `goal`. `refresh` computes Gram matrices
    again. The network runs on `device`.
    """
    judge = Judge(prunable, device)
    best = state.verdict = judge(prunable.narrow(state.dense, state.keep)[0])
    if config.blocks and drop_blocks(state, prunable, goal, config.blocks, judge):
        best, state.grams = state.verdict, refresh(state.dense, state.keep)
        state.traces = {name: float(gram.trace()) for name, gram in state.grams.items()}
    known: dict[str, float] = {}  # verdicts on a step in each group, valid until the network changes
    while prunable.macs(state.keep) > goal:
        step = _next(state, prunable, floors, config)
        if step is None:
            state.tolerance *= 2
            state.frozen.clear()
            continue
        name = step.group.name
        if known.get(name, best) >= best - state.tolerance:
            dense, keep = copy.deepcopy(state.dense), {**state.keep, name: state.keep[name].clone()}
            keep[name][step.channels] = False
            if config.compensation:
                compensate(dense, step.group, state.keep[name], keep[name], prunable.task, device)
            known[name], network, plan = _judged(dense, prunable, keep, judge, step.group)
        if known[name] < best - state.tolerance:
            state.frozen.add(name)
            state.undone += 1
            continue
        state.verdict = known[name]
        best = max(best, state.verdict)
        known.clear()
        judge.accept()
        state.dense, state.keep = prunable.widen(network, plan), keep
        state.steps += 1
        if state.steps % REFRESH == 0:
            state.grams = refresh(state.dense, state.keep)


def drop_blocks(state: State, prunable: Prunable, goal: float, most: float, judge: Judge) -> int:
    """Remove residual blocks in place and return their number: the verdict falls by at most `most`, the MACs not below `goal`.

    Blocks are tried in the order of their individual cost; a block that costs too much after the others is kept.
    """
    least = state.verdict - most

    def without(block: str) -> dict[str, Tensor]:
        return {**state.keep, **{name: torch.zeros_like(state.keep[name]) for name in prunable.blocks[block]}}

    here = [block for block, inside in prunable.blocks.items() if any(state.keep[name].any() for name in inside)]
    alone = {block: _judged(state.dense, prunable, without(block), judge)[0] for block in here}
    for block in sorted(alone, key=lambda block: -alone[block]):
        keep = without(block)
        if alone[block] < least or prunable.macs(keep) < goal:
            continue
        found, network, plan = _judged(state.dense, prunable, keep, judge)
        if found >= least:
            state.dense, state.keep, state.verdict = prunable.widen(network, plan), keep, found
            state.blocks += 1
    return state.blocks


def _judged(
    dense: nn.Module, prunable: Prunable, keep: Keep, judge: Judge, changed: Group | None = None
) -> tuple[float, nn.Module, Plan]:
    """The judge's verdict on the network with the kept channels and corrected BatchNorm, that network, and its plan.

    `changed` is the only group in which it differs from the network that the judge accepted last; None if unknown.
    """
    network, plan = prunable.narrow(dense, keep)
    return judge.restored(network, keep, changed), network, plan


def _next(state: State, prunable: Prunable, floors: Mapping[str, int], config: Config) -> Step | None:
    """The step with the least damage per MAC saved; ties go to the group with the larger share of removable filters."""
    steps = []
    now = prunable.macs(state.keep)
    counts = {name: int(mask.sum()) for name, mask in state.keep.items()}
    for group in prunable.groups:
        spare = counts[group.name] - floors[group.name]
        if spare <= 0 or group.name in state.frozen:
            continue
        take = min(max(1, int(config.share * group.size)), spare)
        channels, distance = cheapest(state.grams[group.name], state.keep[group.name], take, config.order)
        saved = now - prunable.cost.macs({**counts, group.name: counts[group.name] - take})
        score = distance / state.traces[group.name] / saved
        steps.append((score, -spare / group.size, Step(group, channels)))
    return min(steps, key=lambda found: found[:2])[2] if steps else None


class Judge:
    """The share of validation images on which a network predicts the same as the dense network; no label is used."""

    def __init__(self, prunable: Prunable, device: torch.device) -> None:
        self._prunable, self._task, self._device = prunable, prunable.task, device
        task = prunable.task
        self._reference, twin = task.reference(), task.reference().to(device)
        reestimate(twin, task, STATISTICS)
        self._twin = twin.to("cpu")
        self._images = task.prepare(task.validation.inputs[:JUDGES].to(device))
        self._wanted = self._outputs(task.reference()).argmax(1)
        self._estimating, self._judging = Resumed(STATISTICS), Resumed(len(self._images))

    @torch.no_grad()
    def _outputs(self, network: nn.Module) -> Tensor:
        network.to(self._device)
        outputs = torch.cat([network(images) for images in self._images.split(64)])
        network.to("cpu")
        return outputs

    def restored(self, network: nn.Module, keep: Keep, changed: Group | None) -> float:
        """The verdict on a network with the kept channels after its BatchNorm is corrected, in place.

        The network may differ from the one accepted last only in `changed`: layers before these are not run again.
        """
        layers = {member.path for member in changed.members} if changed else None
        dense, twin = (self._prunable.narrow(whole, keep)[0] for whole in (self._reference, self._twin))
        known = control_variate.between(dense, twin)
        with self._estimating.since(layers, network):
            control_variate.correct(network.to(self._device), self._task, STATISTICS, known)
        with self._judging.since(layers, network):
            verdict = self(network)
        network.to("cpu")  # replayed layers, too
        return verdict

    def accept(self) -> None:
        """Compare later networks with the network that was judged last."""
        self._estimating.accept()
        self._judging.accept()

    def __call__(self, network: nn.Module) -> float:
        return float((self._outputs(network.eval()).argmax(1) == self._wanted).float().mean())


@torch.no_grad()
def compensate(
    dense: nn.Module, group: Group, before: Tensor, after: Tensor, task: Task, device: torch.device = CPU
) -> None:
    """Compensate removed channels by the kept ones, by least squares on the inputs of each reader; in place.

    Each removed channel is replaced by the closest linear combination of kept channels in the weights of its readers.
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
    """Inverse of `rows`: write rows back into a weight."""
    turned = weight.transpose(0, 1)
    flat = turned.flatten(1).clone()
    flat[entries.flatten()] = read.view(entries.numel(), -1)
    weight.copy_(flat.view(turned.shape).transpose(0, 1))


class _SeenAllError(Exception):
    """Ends a forward pass when no later layer is needed."""


@torch.no_grad()
def _inputs(dense: nn.Module, group: Group, task: Task, device: torch.device) -> dict[str, Tensor]:
    """The channels of a group, as inputs of each reader, in fp64 on `device`: (size, images · positions)."""
    found: dict[str, Tensor] = {}
    layers = list(readers(dense, group))

    def keep(path: str, entries: Tensor, seen: Tensor) -> None:
        channels = seen.transpose(0, 1).flatten(1)[entries.flatten().to(device)]
        found[path] = channels.view(len(entries), -1).double()
        if len(found) == len(layers):
            raise _SeenAllError

    hooks = [
        dense.get_submodule(path).register_forward_pre_hook(lambda _m, x, p=path, e=entries: keep(p, e, x[0]))
        for path, entries in layers
    ]
    images = task.calibration(min(SAMPLES, len(task.train))).inputs.to(device)
    with suppress(_SeenAllError):
        dense.to(device).eval()(task.prepare(images))
    dense.to("cpu")
    for hook in hooks:
        hook.remove()
    return found
