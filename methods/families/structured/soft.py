"""Soft pruning: filters are repeatedly set to zero while all filters are trained.

Y. He et al., Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks, IJCAI 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.training import Callback, Recipe, fit
from methods.families.limits import Count
from methods.families.structured.allocation import zero
from methods.families.structured.curve import Choose, Settings, recipe
from methods.families.structured.prunable import Keep, Prunable
from methods.interface import Json, Run, Task

SOFT = 0.5


@dataclass(frozen=True)
class SoftSettings(Settings):
    """Additional settings of methods that prune during training.

    For the share SOFT of a point's epochs, filters are set to zero once per epoch, and at least `prunings` times. Then
    channels are removed permanently.
    """

    prunings: Count = 1

    @property
    def hard(self) -> float:
        return 1 - SOFT


def soft_recipe(task: Task, config: SoftSettings, run: Run) -> tuple[Recipe, int, int]:
    """The recipe of the dense network before channels are removed, its number of steps, and the steps between two prunings."""
    found = recipe(config, run, SOFT)
    an_epoch = math.ceil(len(task.train) / found.batch)
    whole, rest = divmod(found.epochs, 1)
    steps = int(whole) * an_epoch + (max(1, round(rest * an_epoch)) if rest else 0)
    return found, steps, max(1, min(an_epoch, steps // config.prunings))


def train_softly(
    dense: nn.Module, prunable: Prunable, keep: Keep, run: Run, recipe: Recipe, stage: str, callback: Callback
) -> None:
    """Train the dense network in place; channels that were removed before remain zero, with their BatchNorm."""
    masks: dict[str, Tensor] = {}
    for group in prunable.groups:
        for member in group.side("out", "depthwise", "norm", "scatter") if not keep[group.name].all() else ():
            for name, parameter in dense.get_submodule(member.path).named_parameters():
                mask = torch.ones(len(parameter), *(1,) * (parameter.ndim - 1), dtype=torch.bool)
                mask[member.entries] = keep[group.name][member.channels].view(-1, *(1,) * (parameter.ndim - 1))
                masks[f"{member.path}.{name}"] = mask
    fit(dense, prunable.task, run, recipe, stage, masks, callback)


class Soft(Callback):
    """Every `every` steps, set the channels that `choose` does not keep to zero; `kept` is its last choice."""

    def __init__(self, network: nn.Module, prunable: Prunable, choose: Callable[[nn.Module], Keep], every: int) -> None:
        self._network, self._prunable, self._choose, self._every = network, prunable, choose, every
        self._step = 0
        self.kept = prunable.all_kept()

    def after_step(self) -> None:
        self._step += 1
        if self._step % self._every == 0:
            self.kept = self._choose(self._network)
            for group in self._prunable.groups:
                zero(self._network, group, ~self.kept[group.name])

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self.kept = state["step"], state["kept"]


def softly(
    task: Task, config: SoftSettings, run: Run, choose: Callable[[nn.Module, Prunable, Keep, float], Keep]
) -> Choose:
    """For `curve`: first train the dense network for the share SOFT, with channels that `choose` drops set to zero.

    The last of these choices is final. Another choice would compare filters that were zero a few steps ago, and BatchNorm
    lets these grow beyond their old size within a few steps.
    """

    def after_training(
        dense: nn.Module, prunable: Prunable, keep: Keep, goal: float
    ) -> tuple[Keep, Mapping[str, Json]]:
        training, _, every = soft_recipe(task, config, run)
        pruning = Soft(dense, prunable, lambda network: choose(network, prunable, keep, goal), every)
        train_softly(dense, prunable, keep, run, training, f"soft, {goal:.0f} MACs", pruning)
        return pruning.kept, {}

    return after_training
