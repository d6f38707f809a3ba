"""From a choice of channels to operating points: cut, train or not, and describe the narrower network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import index, uniform
from benchmarks.training import SGD, Recipe, fit, reestimate
from methods.families.export import norm_parts
from methods.families.structured.channels import Where
from methods.families.structured.prunable import Keep, Prunable, analyse
from methods.families.structured.surgery import Plan
from methods.interface import Compressed, Json, Part, Run, Task


@dataclass(frozen=True)
class Settings:
    """What every structured method is run with.

    `targets` are shares of the dense network's multiply-accumulates to remove, one operating point each; with training,
    each starts from the one before. `where` says which channels may go (`channels.find`). The weights that are left are
    stored on a uniform grid of 2^bits − 1 levels per tensor, entropy coded. Without training, BatchNorm is re-estimated
    on `recalibrate` unlabelled images. Training is by SGD, `batch` images a step; a point has `epochs` of its own in the
    `paper` budget.
    """

    targets: tuple[float, ...] = (0.3, 0.5, 0.7)
    where: Where = "inner"
    bits: int = 8
    recalibrate: int = 500
    lr: float = 0.02
    batch: int = 128
    weight_decay: float = 5e-4
    epochs: int = 200

    @property
    def hard(self) -> float:
        """The share of a point's epochs that passes after channels are removed."""
        return 1.0


Choose: TypeAlias = Callable[[nn.Module, Prunable, Keep, float], tuple[Keep, Mapping[str, Json]]]


def refused(config: Settings) -> str | None:
    """Why these settings can't be followed, in a sentence; None if they can."""
    if not config.targets or list(config.targets) != sorted(set(config.targets)):
        return "targets have to rise, from the largest network to the smallest"
    if not all(0 < target < 1 for target in config.targets):
        return "targets are shares of the multiply-accumulates, above 0 and below 1"
    if config.where not in ("inner", "branches", "streams"):
        return "where has to be inner, branches or streams"
    if not 2 <= config.bits <= 16 or config.recalibrate < 0:
        return "bits has to be 2 to 16, and recalibrate not negative"
    if not (config.lr > 0 and math.isfinite(config.lr)) or min(config.epochs, config.batch) < 1:
        return "lr has to be above 0, and epochs and batch at least 1"
    return None


def curve(task: Task, config: Settings, run: Run, choose: Choose, whole: bool = False) -> Iterator[Compressed]:
    """One point per target; with `whole`, residual blocks may go, too.

    `choose` is given the dense network with zeros for what was removed before, what is kept of it, and the MACs that may
    be left; it returns what to keep and notes for the record, and may change the network's weights in place.
    """
    trains = run.budget.name != "post-training"
    prunable = analyse(task, config.where, whole)
    goals = [prunable.goal(target) for target in config.targets]
    dense, keep = task.reference(), prunable.all_kept()
    for target, goal in zip(config.targets, goals, strict=True):
        if not trains:
            dense, keep = task.reference(), prunable.all_kept()
        # A choice may hang on the last bit of a gradient: what was trained for it must not meet another one.
        stage = f"choice {target:g}"
        chosen = run.restore(stage)
        if chosen is None:
            keep, notes = choose(dense, prunable, keep, goal)
            run.checkpoint(stage, {"keep": keep, "notes": notes, "dense": dense.state_dict()})
            chosen = run.restore(stage)  # the same in every process
        assert chosen is not None
        keep, notes = chosen["keep"], chosen["notes"]
        dense.load_state_dict(chosen["dense"])
        network, plan = prunable.narrow(dense, keep)
        if trains and config.hard:
            fit(network, task, run, recipe(config, run, config.hard), f"{target:g} removed")
            dense = prunable.widen(network, plan)
        elif not trains:
            reestimate(network, task, config.recalibrate)
        yield describe(task, config, network, plan, {"removed": target, "notes": notes})


def recipe(config: Settings, run: Run, share: float) -> Recipe:
    """How a share of a point's epochs is trained."""
    epochs = config.epochs if run.budget.epochs is None else run.budget.epochs / len(config.targets)
    return Recipe(epochs * share, config.lr, config.batch, SGD(weight_decay=config.weight_decay))


@torch.no_grad()
def describe(task: Task, config: Settings, network: nn.Module, plan: Plan, point: Mapping[str, Json]) -> Compressed:
    """The narrower network: weights on a grid per tensor, BatchNorm as the two vectors of inference, gathered channels."""
    tensors = {name: tensor.detach().numpy() for name, tensor in blueprint.state(network).items()}
    levels = 2 ** (config.bits - 1) - 1
    codes, steps = {}, {}
    for name, values in tensors.items():
        if values.ndim > 1:
            step = max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny)) / levels
            codes[name], steps[name] = uniform.quantise(values, step)
    parts: list[Part] = [uniform.part(list(codes), list(codes.values()), list(steps.values()), "weights")]
    parts += norm_parts(network, {n: v for n, v in tensors.items() if n not in codes and n not in plan.indices})
    if plan.indices:
        limit = 1 + max(int(values.max()) for values in plan.indices.values())
        parts.append(index.part(list(plan.indices), [v.numpy() for v in plan.indices.values()], limit))
    return Compressed(task.architecture, task.arguments, tuple(parts), point, plan.edits)
