"""How a network is trained: epochs, learning rate, batch size, optimiser, schedule and augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from methods.interface import Augmentation

# Parameter groups as in torch.optim, each with its own "lr" -> the optimiser.
Optimise: TypeAlias = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
# A (fractional) epoch, from 0 -> the factor of the learning rate of every parameter group.
Schedule: TypeAlias = Callable[[float], float]


@dataclass(frozen=True)
class SGD:
    """`torch.optim.SGD`: gradient descent with momentum; weight decay is added to the gradient."""

    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, momentum=self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov)


@dataclass(frozen=True)
class AdamW:
    """`torch.optim.AdamW`: Adam with decoupled weight decay."""

    weight_decay: float = 5e-4

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to 0 in `epochs` after the warm-up, then 0.

    `warmup` holds the factors of the warm-up epochs.
    """

    epochs: float
    warmup: tuple[float, ...] = ()

    def __call__(self, epoch: float) -> float:
        if epoch < len(self.warmup):
            return self.warmup[int(epoch)]
        passed = min(epoch - len(self.warmup), self.epochs)
        return 0.5 * (1 + math.cos(math.pi * passed / self.epochs))


@dataclass(frozen=True)
class Multistep:
    """1, multiplied by `gamma` at each milestone; milestones are epochs after the warm-up.

    `warmup` holds the factors of the warm-up epochs.
    """

    milestones: tuple[float, ...]
    gamma: float = 0.1
    warmup: tuple[float, ...] = ()

    def __call__(self, epoch: float) -> float:
        if epoch < len(self.warmup):
            return self.warmup[int(epoch)]
        passed = epoch - len(self.warmup)
        return self.gamma ** sum(passed >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class Recipe:
    """How to train.

    `epochs` may be fractional and include a warm-up. `lr` is the learning rate, unless a group of `fit` sets another
    one; the schedule multiplies it (None: a cosine over `epochs`). `batch` is the number of items per step.
    `decay_norm`: weight decay also applies to BatchNorm's scale and shift. `augmentation` replaces the task's (None:
    the task's); images on disk are always cropped at random.
    """

    epochs: float
    lr: float
    batch: int = 128
    optimiser: Optimise = SGD()
    schedule: Schedule | None = None
    decay_norm: bool = True
    augmentation: Augmentation | None = None

    def factor(self, epoch: float) -> float:
        """The factor of the learning rates at a (fractional) epoch."""
        schedule = Cosine(self.epochs) if self.schedule is None else self.schedule
        return schedule(epoch)
