"""A throw-away method from outside of the project, with kinds of module of its own; `test_new_modules` installs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from contributed import piecewise_constant, quantised_conv2d, sine
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card("contributed", "Three kinds of module", (), "", 2024, ("activations",), "baseline")
MODULES = {"piecewise_constant": piecewise_constant, "quantised_conv2d": quantised_conv2d, "sine": sine}


@dataclass(frozen=True)
class Config:
    """Nothing to set."""

    def operating_points(self, budget: Budget) -> Sequence[float]:
        return ()


def unsupported(task: Task, config: Config) -> str | None:
    return "it compresses nothing"


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    return iter(())
