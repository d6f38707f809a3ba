"""How a network is trained: epochs, rates, batches, the optimiser, the schedule of the rates and the augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from methods.interface import Augmentation

# Parameter groups, as torch.optim takes them and each with its own "lr" -> the optimiser.
Optimise: TypeAlias = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
# A (fractional) epoch, from 0 -> the factor by which the rate of every parameter group is multiplied.
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
    """`torch.optim.AdamW`: Adam with weight decay apart from the gradient."""

    weight_decay: float = 5e-4

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Cosine:
    """Falls from 1 to 0 along half a cosine in `epochs`, which are counted from the end of the warm-up, and stays at 0.

    `warmup` holds the factors of the epochs before.
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
    """Starts at 1 and is multiplied by `gamma` at each milestone, an epoch counted from the end of the warm-up.

    `warmup` holds the factors of the epochs before.
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

    `epochs` may be fractional and include those of a warm-up. `lr` is the learning rate of all parameters that no group
    of `fit` gives another one, before it is multiplied by the schedule (None: a cosine over `epochs`). `batch` is the
    number of items of one step. `decay_norm` says whether weight decay acts on BatchNorm's scale and shift as well.
    `augmentation` replaces the task's own (None: the task's); images on disk are cropped at random in any case.
    """

    epochs: float
    lr: float
    batch: int = 128
    optimiser: Optimise = SGD()
    schedule: Schedule | None = None
    decay_norm: bool = True
    augmentation: Augmentation | None = None

    def factor(self, epoch: float) -> float:
        """What the rates are multiplied by at a (fractional) epoch."""
        schedule = Cosine(self.epochs) if self.schedule is None else self.schedule
        return schedule(epoch)
