"""What a budget means for the operating points of a curve."""

from __future__ import annotations

from methods.interface import Budget


def trains(budget: Budget) -> bool:
    """Whether a budget includes training."""
    return budget.name != "post-training"


def epochs_per_point(budget: Budget, points: int, schedule: float) -> list[float]:
    """Training epochs of each operating point: 0, those of the budget, or the paper's `schedule`."""
    if not trains(budget):
        return [0.0] * points
    return [schedule if budget.epochs is None else budget.epochs] * points


def learning_rate(budget: Budget, own: float) -> float:
    """The learning rate of the budget, or the method's `own`."""
    return own if budget.learning_rate is None else budget.learning_rate
