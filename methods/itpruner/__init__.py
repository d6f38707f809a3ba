"""ITPruner: layers whose activations depend little on those of all other layers keep more channels (Zheng et al. 2025).

The dependence of two layers is the normalised Hilbert-Schmidt independence criterion (nHSIC, linear kernel) of their
activations for one batch without labels. A layer's importance is α = exp(−β t), where t is its dependence on all others. The
shares x of kept channels maximise Σ α x under a quadratic polynomial of the cost. No network is trained to find them.

Most published widths are those of α = 0: they depend on neither data nor weights. Beside the published solve there are one that
is scaled correctly, and equal shares for all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from methods.families.budget import trains
from methods.families.structured import Group, Keep, Prunable, analyse, curve, filters, highest
from methods.families.structured.channels import counts
from methods.interface import Card, Compressed, Json, Run, Task
from methods.itpruner import cifar_blocks, importance, polynomial, solve
from methods.itpruner.cifar_blocks import Point
from methods.itpruner.config import Config
from methods.itpruner.polynomial import Polynomial, Vector

CARD = Card(
    key="itpruner",
    title="An Information Theory-Inspired Strategy for Automated Network Pruning",
    authors=(
        "Xiawu Zheng", "Yuexiao Ma", "Teng Xi", "Gang Zhang", "Errui Ding", "Yuchao Li", "Jie Chen", "Yonghong Tian",
        "Rongrong Ji",
    ),
    venue="International Journal of Computer Vision",
    year=2025,
    families=("structured pruning",),
    fidelity="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2108.08532",
    code="https://github.com/MAC-AutoML/ITPruner",
    note="Abstract and official code were available: equations, settings and published widths are those of the code.",
)  # fmt: skip
Places: TypeAlias = Callable[[nn.Module], Mapping[str, bool]]  # see `importance.measured`
CLOSE = 1  # channel: widths that differ by less than two count as equal


def unsupported(task: Task, config: Config) -> str | None:
    """Structure "blocks" needs a CIFAR ResNet, and as many given widths as the network has blocks.

    `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`).
    """
    if config.where == "branches":
        return "where 'branches' has several groups with one input, whose dependence is not defined: use 'inner' or 'streams'"
    if config.structure == "blocks":
        found = cifar_blocks.find(blueprint.skeleton(task.architecture, task.arguments, {}, {}))
        if not found:
            return f"structure 'blocks' needs the blocks of a CIFAR ResNet, which {task.architecture} does not have"
        if config.widths and {len(widths) for widths in config.widths} != {len(found)}:
            return f"{task.network} has {len(found)} blocks, but widths are given for another number"
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per target, from high rate to low, with the widths in its notes; raises MethodError if one can't be met."""
    return _blocks(task, config, run) if config.structure == "blocks" else _channels(task, config, run)


def _blocks(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    if not trains(run.budget):
        msg = "structure 'blocks' is trained from scratch: use a budget with training, or structure 'channels'"
        raise MethodError(msg)
    stage = "widths of blocks"
    if (saved := run.restore(stage)) is None:  # a resumed run must train the same networks
        run.checkpoint(stage, {"points": _points(task, config, run)})
        saved = run.restore(stage)
    assert saved is not None
    return cifar_blocks.trained(task, config, run, [Point(*point) for point in saved["points"]])


def _points(task: Task, config: Config, run: Run) -> list[list[Json]]:
    """The label, widths and notes of each operating point, as plain data."""
    cost = cifar_blocks.polynomial(task)
    ones = np.ones(len(cost.full))
    goals = config.allowed or [(1 - target) * cost(ones) for target in config.targets]
    name = "allowed" if config.allowed else "removed"
    known = _dependence(task, config, run, lambda network: dict.fromkeys(cifar_blocks.find(network), True))
    found: list[list[Json]] = []
    for place, (value, goal) in enumerate(zip(config.allowed or config.targets, goals, strict=True)):
        notes: dict[str, Json] = {}
        if config.widths:
            widths = list(config.widths[place])
        else:
            x, notes = _solved(cost, goal, config, known, ones)
            widths = [int(width) for width in solve.rounded(cost, x)]
        as_published = round(cost(np.array(widths) / cost.full))
        found.append([{name: value}, [*widths], {**notes, "counted_as_published": as_published}])
    return found


def _channels(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    groups: Sequence[Group] = analyse(task, config.where).groups
    known = _dependence(task, config, run, lambda network: importance.readers(network, groups))

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        cost = polynomial.of(prunable.cost, prunable.groups)
        left = counts(keep)
        most = np.array([left[group.name] / group.size for group in prunable.groups])
        x, notes = _solved(cost, goal, config, known, most)
        found = solve.within(cost, x, goal)
        widths = {group.name: int(width) for group, width in zip(prunable.groups, found, strict=True)}
        scores: dict[str, torch.Tensor] = {g.name: filters(dense, g).abs().sum(1) for g in prunable.groups}
        table: list[Json] = [[group.name, group.size, widths[group.name]] for group in prunable.groups]
        return highest(scores, keep, widths), {"layers": table, **notes}

    return curve(task, config, run, choose)


def _dependence(task: Task, config: Config, run: Run, places: Places) -> Vector | None:
    """M (L, L) of the reference, or None if the solve needs no data."""
    if not config.needs_data:
        return None
    network = task.reference()
    return importance.measured(network, task, run, config.images, places(network))


def _solved(
    cost: Polynomial, goal: float, config: Config, known: Vector | None, most: Vector
) -> tuple[Vector, dict[str, Json]]:
    """The shares to keep; its notes tell how much they depend on data."""
    zero = np.zeros(len(cost.full))
    if known is None:
        return solve.shares(cost, goal, zero, config.solve, config.floor, most), {}
    if config.solve == "scaled":
        alpha = importance.relative(known, config.relative_beta)
    else:
        alpha = importance.importance(known, config.beta, config.normalised)
    x = solve.shares(cost, goal, alpha, config.solve, config.floor, most)
    without = solve.shares(cost, goal, zero, "published", config.floor, most)
    apart = np.abs(solve.rounded(cost, x) - solve.rounded(cost, without))
    return x, {
        "alpha": [float(value) for value in alpha],
        "widths_without_data": float((apart <= CLOSE).mean()),
    }
