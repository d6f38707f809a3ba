"""From codes and codebooks to operating points: optional training of codewords, and the description of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from msgspec import Meta
from torch import nn

from benchmarks.bitstream.codecs import codebook
from benchmarks.training import AdamW, Recipe, control_variate, fit
from methods.families import storage
from methods.families.budget import epochs_per_point, learning_rate, trains
from methods.families.codebooks.book import Book
from methods.families.codebooks.training import Decoded
from methods.families.description import describe
from methods.families.limits import Count, Images
from methods.families.slim import Slim
from methods.interface import Budget, Compressed, Json, Part, Run, Task

Point: TypeAlias = tuple[Annotated[int, Meta(ge=1, le=64)], Annotated[int, Meta(ge=2, le=4096)]]
LEARNING_RATE = 1e-3
EPOCHS = 9  # per point at the `paper` budget, as in public product quantisers


@dataclass(frozen=True)
class Settings:
    """The settings of all vector quantisers.

    Each entry of `points` (or, with training, `short_points`) is one operating point: M codebooks of K codewords. Weights
    are divided by the standard deviation of their layer or output channel (`scale`) and cut into vectors. Codebooks, and
    the weights of the modules in `skip`, are stored in fp16. `recalibrate` is the number of unlabelled images by which
    BatchNorm is corrected without training. With training, codes are fixed, and codewords, BatchNorm and biases are
    trained by AdamW without weight decay, with `batch` images per step and EPOCHS epochs per point at the `paper` budget.
    """

    points: tuple[Point, ...] = (
        (8, 256),
        (6, 256),
        (5, 256),
        (4, 256),
        (3, 256),
        (2, 256),
        (2, 128),
        (1, 256),
    )
    short_points: tuple[Point, ...] = ((6, 256), (4, 256), (3, 256), (2, 256), (1, 256))
    scale: Literal["layer", "channel", "none"] = "layer"
    skip: tuple[str, ...] = ()
    recalibrate: Images = 500
    batch: Count = 128

    labels: ClassVar[tuple[str, str]] = ("books", "codewords")  # names of the two numbers of a point

    def __post_init__(self) -> None:
        if not self.points or not self.short_points:
            raise ValueError("points and short_points need at least one pair each")

    def chosen(self, budget: Budget) -> tuple[Point, ...]:
        """The operating points at a budget."""
        return self.short_points if trains(budget) else self.points

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.chosen(budget)), EPOCHS)


@dataclass(frozen=True)
class VectorSettings(Settings):
    """For quantisers of the whole network: all weights are cut into vectors of `dimension` values."""

    dimension: Count = 8


Quantise: TypeAlias = Callable[[nn.Module, tuple[int, int]], Sequence[Book]]


def curve(task: Task, config: Settings, run: Run, quantise: Quantise) -> Iterator[Compressed]:
    """Yield the operating points of a configuration; `quantise` finds the codebooks of each.

    The note `shared` is the fraction of used codewords that at least two layers use.
    """
    storage.check_names(task)
    training = trains(run.budget)
    known = control_variate.control(task.reference(), task, 0 if training else config.recalibrate)
    for point, epochs in zip(config.chosen(run.budget), config.operating_points(run.budget), strict=True):
        network = task.reference()
        books = quantise(network, point)
        labels: dict[str, Json] = dict(zip(config.labels, point, strict=True))
        notes = {"shared": round(shared_codewords(books), 4)}
        if training:
            decoded = Decoded(network, books)
            rate = learning_rate(run.budget, LEARNING_RATE)
            recipe = Recipe(epochs, rate, config.batch, AdamW(weight_decay=0.0))
            fit(decoded, task, run, recipe, f"point {labels}")
            books = decoded.books()
        parts = [described(book) for book in books]
        storage.fill(network, parts)
        if not training:
            control_variate.correct(network, task, config.recalibrate, known)
        yield describe(task, network, Slim(), parts, labels, notes)


def shared_codewords(books: Sequence[Book]) -> float:
    """The fraction of used codewords that vectors of at least two layers use."""
    used = shared = 0
    for book in books:
        ends = np.cumsum([len(layer.vectors) for layer in book.layers])[:-1]
        layers = np.zeros(book.codebooks.shape[:2], np.int64)
        for own in np.split(book.codes, ends):
            for m in range(own.shape[1]):
                layers[m, np.unique(own[:, m])] += 1
        used, shared = used + int((layers >= 1).sum()), shared + int((layers >= 2).sum())
    return shared / used


def described(book: Book) -> Part:
    """Codes, codebooks and scales as a part of the file."""
    masks = [layer.mask for layer in book.layers]
    return codebook.part(
        [layer.path for layer in book.layers],
        book.codes,
        book.codebooks,
        [layer.scale for layer in book.layers],
        book.kind,
        "float16",
        None if masks[0] is None else masks,
    )
