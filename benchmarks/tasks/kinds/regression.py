"""Regression: numbers about an item to one number; the task as methods see it, and the test items for the suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.evaluation import scoring
from benchmarks.tasks.kinds.classification import Classification
from benchmarks.training import modes
from methods.interface import REGRESSION, Metric, Split

MSE = "mse"


@dataclass(frozen=True, eq=False)
class Regression(Classification):
    """Satisfies `methods.interface.Task`. Inputs are fp32 (N, F), targets fp32 (N, 1) in their own unit.

    `mean` and `std` normalise the inputs (one value per column); the network's output is the target, less `centre` and
    divided by `spread`. The rest is that of a task with a reference and two splits.
    """

    kind: str = REGRESSION
    centre: float = 0.0
    spread: float = 1.0

    def prepare(self, inputs: Tensor) -> Tensor:
        """Columns (N, F) as the network's normalised fp32 input."""
        mean, std = (torch.tensor(values, device=inputs.device) for values in (self.mean, self.std))
        return (inputs - mean) / std

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, (targets - self.centre) / self.spread)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The squared error of each item, in the squared unit of the targets."""
        return {MSE: (outputs * self.spread + self.centre - targets).square().flatten(1).mean(1)}


@dataclass(frozen=True, eq=False)
class RegressionTest:
    """Satisfies `benchmarks.tasks.Test`: the test items of a task; methods have no access to them."""

    task: Regression
    load: Callable[[], Split]
    items: int

    @property
    def example(self) -> Tensor:
        """The input (1, F) of an item with the mean of every column."""
        return torch.zeros(1, len(self.task.mean))

    def split(self) -> Split:
        with modes.standard():
            return self.load()

    def scores(self, network: nn.Module, part: range) -> dict[str, Tensor]:
        return scoring.scores(network, self.split(), self.task, part)


def squared_error(unit: str, decimals: int, help: str) -> tuple[Metric, ...]:
    """The mean squared error, in a squared unit."""
    return (Metric(MSE, unit, "mean", help, more_is_better=False, decimals=decimals),)
