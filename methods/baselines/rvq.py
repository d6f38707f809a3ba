"""Residual vector quantisation of a whole network: like `aq`, with successive k-means on residuals.

The weights of all layers are divided by the standard deviation of their layer and cut into vectors of 8 values, which form one
set. The first codebook is learned on these vectors, each further one on what the earlier ones leave; a vector keeps the codes
that it got on the way. In `aq`, codes and codebooks are then optimised together. With training, codes are fixed, and
codewords, BatchNorm and biases are trained.
"""

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
