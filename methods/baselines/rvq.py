"""Residual vector quantisation of a whole network: like `aq`, with successive k-means on residuals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from methods.families.codebooks import Book, VectorSettings, collect, curve, stack, weights
from methods.families.codebooks.means import residual
from methods.interface import Card, Compressed, Run, Task

CARD = Card(
    key="rvq",
    title="Residual vector quantisation, one set of codebooks for the network",
    authors=(),
    venue="",
    year=2010,
    families=("vector quantisation", "weight sharing"),
    fidelity="baseline",
    budgets=("post-training", "short", "paper"),
)


@dataclass(frozen=True)
class Config(VectorSettings):
    """The operating points of `aq`, for a comparison at equal bytes."""


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per (M, K)."""

    def quantise(network: nn.Module, point: tuple[int, int]) -> Sequence[Book]:
        layers = collect(weights(network, config.skip), config.dimension, config.scale)
        return [Book(layers, *residual(stack(layers), *point))]

    return curve(task, config, run, quantise)
