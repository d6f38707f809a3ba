"""The uncompressed network, stored in fp32 and in fp16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from methods.families import storage
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card(
    key="reference",
    title="The reference network, stored as it is",
    authors=(),
    venue="",
    year=2026,
    families=("storage",),
    fidelity="baseline",
)


DTYPES: tuple[Literal["float32", "float16"], ...] = ("float32", "float16")


@dataclass(frozen=True)
class Config:
    """There are no settings."""

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(DTYPES)


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """Two points: every tensor as fp32 (exact), then as fp16."""
    network = task.reference()
    for dtype in DTYPES:
        parts = storage.stored_raw(storage.tensors(network), dtype)
        yield Compressed(task.architecture, task.arguments, tuple(parts), {"dtype": dtype})
