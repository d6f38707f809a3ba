"""How much of a budget each operating point of a curve is trained with."""

from __future__ import annotations

from methods.interface import Budget


def trains(budget: Budget) -> bool:
    """Whether a budget pays for training."""
    return budget.name != "post-training"


def shares(budget: Budget, points: int, schedule: float) -> list[float]:
    """Epochs of training of each of so many operating points: none, equal shares of the budget, or the paper's `schedule`."""
    if not trains(budget):
        return [0.0] * points
    return [schedule if budget.epochs is None else budget.epochs / points] * points
