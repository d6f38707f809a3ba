"""From codes and codebooks to operating points: train the codewords or not, and describe the network that they decode to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import codebook
from benchmarks.training import AdamW, Recipe, fit, reestimate
from methods.families.codebooks.training import Decoded
from methods.families.codebooks.vectors import Layer
from methods.families.export import norm_parts
from methods.interface import Compressed, Json, Part, Run, Task


@dataclass(frozen=True)
class Settings:
    """What every quantiser of vectors is run with.

    `points` and `short_points` (with little training) are one operating point each: M codebooks of K codewords. Weights
    are divided by the standard deviation of their layer or output channel (`scale`) and cut into vectors of `dimension`
    values; those of the modules in `skip` stay fp16. Codebooks are stored as `storage`. `recalibrate` is the number of
    unlabelled images on which BatchNorm is re-estimated where nothing is trained. With training, codes stay, and
    codewords, BatchNorm and biases learn by AdamW without weight decay, `batch` images a step; `epochs` belong to each
    point of the `paper` budget.
    """

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
    scale: Literal["layer", "channel", "none"] = "layer"
    skip: tuple[str, ...] = ()
    storage: Literal["float16", "float32"] = "float16"
    recalibrate: int = 500
    lr: float = 1e-3
    batch: int = 128
    epochs: int = 9

    labels: ClassVar[tuple[str, str]] = ("books", "codewords")  # what the two numbers of a point are called


@dataclass(frozen=True)
class Book:
    """Layers that share codebooks: (M, K, width) with codes (n, M) of all their vectors, in order."""

    layers: Sequence[Layer]
    codebooks: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int32]
    kind: Literal["additive", "product"] = "additive"


Quantise: TypeAlias = Callable[[nn.Module, tuple[int, int]], Sequence[Book]]


def refused(config: Settings) -> str | None:
    """Why these settings can't be followed, in a sentence; None if they can."""
    if config.scale not in ("layer", "channel", "none") or config.storage not in ("float16", "float32"):
        return "scale has to be layer, channel or none, and storage float16 or float32"
    if not all(1 <= m <= 64 and 2 <= k <= 4096 for points in (config.points, config.short_points) for m, k in points):
        return "points have to be pairs: 1 to 64 codebooks (or values of a vector) and 2 to 4096 codewords"
    if not config.points or not config.short_points or config.dimension < 1:
        return "there has to be a point, and dimension has to be at least 1"
    return None


def curve(task: Task, config: Settings, run: Run, quantise: Quantise) -> Iterator[Compressed]:
    """One operating point for each of the configuration's, which `quantise` turns into codebooks.

    The note `shared` is the share of used codewords that at least two layers use.
    """
    trains = run.budget.name != "post-training"
    points = config.short_points if trains else config.points
    for point in points:
        network = task.reference()
        books = quantise(network, point)
        labels: dict[str, Json] = dict(zip(config.labels, point, strict=True))
        notes = {"shared": round(shared_codewords(books), 4)}
        if trains:
            share = config.epochs if run.budget.epochs is None else run.budget.epochs / len(points)
            decoded = Decoded(network, books)
            recipe = Recipe(share, config.lr, config.batch, AdamW(weight_decay=0.0))
            fit(decoded, task, run, recipe, f"point {labels}")
            books = decoded.books()
        parts = [described(book, config) for book in books]
        load(network, parts)
        if not trains:
            reestimate(network, task, config.recalibrate)
        yield describe(task, network, parts, {**labels, "notes": notes})


def describe(task: Task, network: nn.Module, parts: Sequence[Part], point: Mapping[str, Json]) -> Compressed:
    """The network with what `parts` fill, BatchNorm as the two vectors of inference, and the rest in fp16."""
    coded = {target for part in parts for target in part.targets}
    rest = {n: t.detach().numpy() for n, t in blueprint.state(network).items() if n not in coded}
    return Compressed(task.architecture, task.arguments, (*parts, *norm_parts(network, rest)), point)


def shared_codewords(books: Sequence[Book]) -> float:
    """The share of used codewords that vectors of at least two layers use."""
    used = shared = 0
    for book in books:
        ends = np.cumsum([len(layer.vectors) for layer in book.layers])[:-1]
        layers = np.zeros(book.codebooks.shape[:2], np.int64)
        for own in np.split(book.codes, ends):
            for m in range(own.shape[1]):
                layers[m, np.unique(own[:, m])] += 1
        used, shared = used + int((layers >= 1).sum()), shared + int((layers >= 2).sum())
    return shared / used


def described(book: Book, config: Settings) -> Part:
    """Codes, codebooks and scales as a part of the file."""
    masks = [layer.mask for layer in book.layers]
    return codebook.part(
        [layer.path for layer in book.layers],
        book.codes,
        book.codebooks,
        [layer.scale for layer in book.layers],
        book.kind,
        config.storage,
        None if masks[0] is None else masks,
    )


@torch.no_grad()
def load(network: nn.Module, parts: Sequence[Part]) -> None:
    """Put what the decoder will make of the parts into the network."""
    parameters = dict(network.named_parameters())
    for part in parts:
        coded = codebook.encode(part)
        shapes = [tuple(parameters[target].shape) for target in part.targets]
        arrays = codebook.decode(coded.meta, [stream for _, stream in coded.streams], shapes)
        for target, array in zip(part.targets, arrays, strict=True):
            parameters[target].copy_(torch.from_numpy(array))
