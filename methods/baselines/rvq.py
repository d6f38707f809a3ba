"""Residual vector quantisation of a whole network: the codebooks of `aq`, found one after the other by k-means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.codebooks import Book, Settings, collect, curve, refused, stack, weights
from benchmarks.codebooks.means import residual
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="rvq",
    title="Residual vector quantisation, one set of codebooks for the network",
    authors=(),
    venue="",
    year=2010,
    families=("vector quantisation", "weight sharing"),
    faithful="baseline",
    budgets=("post-training", "short", "paper"),
)


@dataclass(frozen=True)
class Config(Settings):
    """`points` and `short_points` are (M codebooks, K codewords each); `dimension` is the length of a vector."""

    points: tuple[tuple[int, int], ...] = (
        (8, 256),
        (6, 256),
        (5, 256),
        (4, 256),
        (3, 256),
        (2, 256),
        (2, 128),
        (1, 256),
    )
    short_points: tuple[tuple[int, int], ...] = ((6, 256), (4, 256), (3, 256), (2, 256), (1, 256))
    dimension: int = 8

    @property
    def random(self) -> bool:
        """k-means starts from vectors drawn at random."""
        return True


def unsupported(task: Task, config: Config) -> str | None:
    """Any network will do; what is refused is a configuration that can't be followed."""
    if not all(1 <= m <= 64 and 2 <= k <= 4096 for points in (config.points, config.short_points) for m, k in points):
        return "points have to be pairs of 1 to 64 codebooks and 2 to 4096 codewords"
    if not config.points or not config.short_points or config.dimension < 1:
        return "there has to be a point, and dimension has to be at least 1"
    return refused(config)


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per (M, K)."""
    seed = int(torch.randint(2**31, (), generator=run.generator("rvq")))

    def quantise(network: nn.Module, point: tuple[int, int]) -> tuple[Sequence[Book], Mapping[str, Json]]:
        layers = collect(weights(network, config.skip), config.dimension, config.scale)
        book = Book(layers, *residual(stack(layers), *point, seed))
        return [book], {"books": point[0], "codewords": point[1]}

    points = config.points if run.budget.name == "post-training" else config.short_points
    return curve(task, config, run, points, quantise)
