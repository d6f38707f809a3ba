"""Soft pruning: filters are set to zero again and again while all of them go on training.

Y. He et al., Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks, IJCAI 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.structured.allocation import zero
from benchmarks.structured.curve import Choose, Settings, epochs
from benchmarks.structured.prunable import Keep, Prunable
from benchmarks.training import Recipe, fit
from methods.interface import Json, Run, Task


def soft_recipe(task: Task, config: Settings, run: Run, prunings: int = 1) -> tuple[Recipe, int, int]:
    """How the dense network is trained before channels are removed for good; its steps, and those between two prunings.

    Filters are set to zero once an epoch, but at least `prunings` times.
    """
    recipe = Recipe(config.soft * epochs(config, run), config.lr)
    an_epoch = math.ceil(len(task.train) / recipe.batch)
    steps = math.floor(recipe.epochs) * an_epoch + max(1, round(recipe.epochs % 1 * an_epoch))
    return recipe, steps, max(1, min(an_epoch, steps // prunings))


class Soft:
    """Steering that now and then sets to zero what `choose` does not keep of a network."""

    def __init__(self, network: nn.Module, prunable: Prunable, choose: Callable[[nn.Module], Keep], every: int) -> None:
        self._network, self._prunable, self._choose, self._every = network, prunable, choose, every
        self._step = 0

    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        pass

    def after_step(self) -> None:
        self._step += 1
        if self._step % self._every == 0:
            keep = self._choose(self._network)
            for group in self._prunable.groups:
                zero(self._network, group, ~keep[group.name])

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step = state["step"]


def softly(
    task: Task, config: Settings, run: Run, choose: Callable[[nn.Module, Prunable, Keep, float], Keep]
) -> Choose:
    """For `curve`: first train the dense network for the share `soft`, with what `choose` does not keep set to zero."""

    def after_training(
        dense: nn.Module, prunable: Prunable, keep: Keep, goal: float
    ) -> tuple[Keep, Mapping[str, Json]]:
        recipe, _, every = soft_recipe(task, config, run)
        steering = Soft(dense, prunable, lambda network: choose(network, prunable, keep, goal), every)
        fit(dense, task, run, recipe, f"soft, {goal:.0f} MACs", steering=steering)
        return choose(dense, prunable, keep, goal), {}

    return after_training
