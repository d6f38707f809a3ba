"""Additive quantisation of a whole network (Sun et al. 2021): a weight vector of any layer is a sum of M shared codewords.

The weights of all layers are divided by the standard deviation of their layer and cut into vectors of 8 values, which form one
set. LSQ (Martinez et al. 2016, 2018) finds codebooks by least squares and codes by iterated local search, in turn. With
training, codes are fixed, and codewords, BatchNorm and biases are trained.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta
from torch import nn

from benchmarks import bitstream
from benchmarks.errors import MethodError
from methods.aq.quantizer import Search, learn
from methods.aq.sizes import points_at
from methods.families import storage
from methods.families.budget import epochs_per_point
from methods.families.codebooks import (
    Book,
    VectorSettings,
    collect,
    curve,
    described,
    groups,
    stack,
    weights,
)
from methods.families.codebooks.curve import EPOCHS
from methods.families.description import describe
from methods.families.limits import Ratio, check_order
from methods.families.slim import Slim
from methods.interface import CLASSIFICATION, IMAGE_CODING, Budget, Card, Compressed, Run, Task

CARD = Card(
    key="aq",
    title="Toward Compact Parameter Representations for Architecture-Agnostic Neural Network Compression",
    authors=("Yuezhou Sun", "Wenlong Zhao", "Lijun Zhang", "Xiao Liu", "Hui Guan", "Matei Zaharia"),
    venue="arXiv",
    year=2021,
    families=("vector quantisation", "weight sharing"),
    fidelity="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2111.10320",
    note="Only the abstract was available. The quantiser is LSQ (Martinez et al. 2016, 2018); its settings are this module's.",
    kinds=(CLASSIFICATION, IMAGE_CODING),
)


MOST = 2**14  # codewords in total: the least-squares matrix has this number squared of fp64 entries


@dataclass(frozen=True)
class Config(VectorSettings):
    """The settings of additive quantisation.

    `parts` is the number of contiguous groups of layers, each with its own codebooks (1: the whole network; 0: each
    layer). The codewords of a part with few vectors are limited to a quarter of its vectors.

    `ratios` gives target ratios in bytes instead of points. For each, the (M, K) are tried in order of size without
    entropy coding; the last one before the first file that is too large is used.

    `pruned` is the share of all weights that is first set to zero by magnitude. "survivors" then quantises only the others
    and stores a mask; "dense" quantises zeros like any other value.
    """

    parts: Annotated[int, Meta(ge=0, le=10_000)] = 1
    ratios: tuple[Ratio, ...] = ()
    pruned: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    keep: Literal["survivors", "dense"] = "survivors"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_order("ratios", self.ratios, empty=True)
        if not all(m * k <= MOST for m, k in (*self.points, *self.short_points)):
            msg = f"points may have {MOST:,} codewords in all their codebooks: least squares would take gigabytes"
            raise ValueError(msg)
        if self.ratios and (self.parts != 1 or self.pruned):
            raise ValueError("ratios need parts 1 and pruned 0")

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.ratios), EPOCHS) if self.ratios else super().operating_points(budget)


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per (M, K), or per ratio in `ratios`, which is then its label."""

    # The search for a ratio quantises at several sizes, and the curve needs one of them again: cache them.
    @functools.lru_cache(maxsize=2 * len(config.ratios))
    def books_of(point: tuple[int, int]) -> Sequence[Book]:
        found = weights(task.reference(), config.skip)
        masks = None
        if config.pruned:
            survivors = magnitude_masks(found, config.pruned)
            if emptied := [path for path, mask in survivors.items() if not mask.any()]:
                msg = f"pruning a share of {config.pruned:g} leaves nothing of {emptied[0]}: prune less, or skip that layer"
                raise MethodError(msg)
            found = {path: w * survivors[path] for path, w in found.items()}
            masks = survivors if config.keep == "survivors" else None
        books = []
        for layers in groups(collect(found, config.dimension, config.scale, masks), config.parts):
            x, (count, size) = stack(layers), point
            made = learn(x, count, size if config.parts == 1 else min(size, max(2, len(x) // 4)), Search(), run.device)
            books.append(Book(layers, made.codebooks, made.codes))
        return books

    def size_of(point: tuple[int, int]) -> int:
        parts = [described(book) for book in books_of(point)]
        return len(bitstream.encode(describe(task, task.reference(), Slim(), parts, {})))

    def quantise(_: nn.Module, point: tuple[int, int]) -> Sequence[Book]:
        return books_of(point)

    storage.check_names(task)
    if not config.ratios:
        yield from curve(task, config, run, quantise)
        return
    points = points_at(config.ratios, task, config, size_of)
    asked = replace(config, points=points, short_points=points)
    for ratio, compressed in zip(config.ratios, curve(task, asked, run, quantise), strict=True):
        yield replace(compressed, point={"ratio": ratio, **compressed.point})


def magnitude_masks(found: Mapping[str, npt.NDArray[np.float32]], sparsity: float) -> dict[str, npt.NDArray[np.bool_]]:
    """True for all but the `sparsity` share of weights with the smallest magnitudes."""
    ranked = np.sort(np.concatenate([np.abs(w).reshape(-1) for w in found.values()]))
    threshold = ranked[min(round(sparsity * len(ranked)), len(ranked) - 1)]
    return {path: np.abs(w) >= threshold for path, w in found.items()}
