"""Product quantisation of each layer separately, as in "And the bit goes down" (Stock et al., ICLR 2020).

Each weight is cut into vectors, and each layer has its own codebook. The paper's activation-weighted k-means is not
implemented.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from methods.families.codebooks import Book, Settings, collect, curve, groups, stack, weights
from methods.families.codebooks.curve import Point
from methods.families.codebooks.means import k_means
from methods.interface import Card, Compressed, Run, Task

CARD = Card(
    key="pq",
    title="And the bit goes down: codebooks of each layer, without activation weighting",
    authors=("Pierre Stock", "Armand Joulin", "Rémi Gribonval", "Benjamin Graham", "Hervé Jégou"),
    venue="ICLR",
    year=2020,
    families=("vector quantisation",),
    fidelity="baseline",
    budgets=("post-training", "short", "paper"),
    arxiv="1907.05686",
    code="https://github.com/facebookresearch/kill-the-bits",
)


@dataclass(frozen=True)
class Config(Settings):
    """`points` and `short_points` are (d values per vector, K codewords per layer).

    The codewords of a layer are limited to a quarter of its vectors, as in the official code, but not to less than two or
    all of its vectors.
    """

    points: tuple[Point, ...] = ((1, 256), (2, 256), (3, 128), (4, 128), (4, 64), (6, 64), (9, 32), (9, 16))
    labels: ClassVar[tuple[str, str]] = ("dimension", "codewords")
    short_points: tuple[Point, ...] = ((2, 256), (3, 128), (4, 64), (6, 64), (9, 32))


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per (d, K)."""

    def quantise(network: nn.Module, point: tuple[int, int]) -> Sequence[Book]:
        dimension, size = point
        books = []
        for layers in groups(collect(weights(network, config.skip), dimension, config.scale), 0):
            x = stack(layers)
            words, codes = k_means(x, min(size, len(x), max(2, len(x) // 4)))
            books.append(Book(layers, words[None], codes[:, None]))
        return books

    return curve(task, config, run, quantise)
