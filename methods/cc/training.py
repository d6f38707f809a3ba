"""Fine-tuning: the paper's recipe, or a few epochs as for all structured methods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from benchmarks.training import SGD, Callback, Multistep, Recipe
from methods.cc.config import Config
from methods.families.budget import learning_rate
from methods.families.grid import OnGrid
from methods.interface import Run, Task

SHORT_LEARNING_RATE = 0.02  # for a few epochs
LARGEST = 1.0  # norm of all gradients at the `paper` budget


class Clipped(Callback):
    """Limits the norm of all gradients to LARGEST; otherwise does what `inner` does."""

    def __init__(self, network: nn.Module, inner: Callback) -> None:
        self._network, self._inner = network, inner

    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        self._inner.before_epoch(epoch, optimiser)

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(self._network.parameters(), LARGEST)
        self._inner.before_step(optimiser)

    def after_step(self) -> None:
        self._inner.after_step()

    def state_dict(self) -> dict[str, Any]:
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._inner.load_state_dict(state)


def callback(config: Config, run: Run, network: nn.Module) -> Callback:
    rounding = OnGrid(network, config.bits) if config.storage == "uniform" else Callback()
    return Clipped(network, rounding) if run.budget.epochs is None else rounding


def recipe(task: Task, config: Config, run: Run, epochs: float) -> Recipe:
    """At the `paper` budget, crops have twice the task's usual padding (the official code: 8 pixels for CIFAR)."""
    optimiser = SGD(weight_decay=config.weight_decay)
    if run.budget.epochs is None:
        crops = replace(task.augmentation, padding=2 * task.augmentation.padding)
        steps = Multistep(config.milestones)
        return Recipe(epochs, config.lr, config.batch, optimiser, steps, augmentation=crops)
    return Recipe(epochs, learning_rate(run.budget, SHORT_LEARNING_RATE), config.batch, optimiser)
