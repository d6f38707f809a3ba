"""How the epochs of a budget are divided over the operating points of a curve."""

from __future__ import annotations

from methods.interface import Budget


def trains(budget: Budget) -> bool:
    """Whether a budget includes training."""
    return budget.name != "post-training"


def epochs_per_point(budget: Budget, points: int, schedule: float) -> list[float]:
    """Training epochs of each operating point: 0, an equal share of the budget, or the paper's `schedule`."""
    if not trains(budget):
        return [0.0] * points
    return [schedule if budget.epochs is None else budget.epochs / points] * points
