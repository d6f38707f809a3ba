"""Tensor reordering: DCT coefficients of a weight whose columns follow a nearest-neighbour tour (Ulicny et al., ICASSP 2021).

Each weight is reshaped to a few rows. Its columns are put in an order in which neighbours are similar, so that the lowest
frequencies of the rows hold nearly all of their energy. These coefficients and the order are stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, cast

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw, uniform
from benchmarks.errors import MethodError
from benchmarks.training import SGD, Multistep, Recipe, control_variate, fit
from methods.families import storage
from methods.families.budget import epochs_per_point, learning_rate, trains
from methods.families.description import describe
from methods.families.generated import Generated
from methods.families.limits import Count, Images, NotNegative, Positive
from methods.families.slim import Slim
from methods.interface import Augmentation, Budget, Card, Codec, Compressed, Json, Part, Run, Task
from methods.tensor_reordering.coding import CODECS as OWN
from methods.tensor_reordering.coding import MOST_ROWS, part
from methods.tensor_reordering.layers import Schedule, rates, weights
from methods.tensor_reordering.tour import tour
from methods.tensor_reordering.transform import OnSteps, Reordered, Source, analysed, kept_frequencies

CARD = Card(
    key="tensor_reordering",
    title="Tensor Reordering for CNN Compression",
    authors=("Matej Ulicny", "Vladimir A. Krylov", "Rozenn Dahyot"),
    venue="ICASSP",
    year=2021,
    families=("transform coding", "weight sharing"),
    fidelity="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2010.12110",
    code="https://github.com/matej-ulicny/reorder-cnn-compression",
    note="From the official code, its README and the paper's abstract; the full text was not available.",
)
CODECS = cast("dict[str, Codec]", OWN)
Groups: TypeAlias = Annotated[int, Meta(ge=1, le=MOST_ROWS)]


@dataclass(frozen=True)
class Config:
    """`points` are (rows g of the reshaped weights, rate), one operating point each, from the largest file to the smallest.

    `schedule` says how a rate gives each weight's ρ (`layers.rates`). `order` "given" leaves the columns where they are and
    stores no permutation. Modules in `skip` are not compressed. `storage` is that of the coefficients: raw, or in steps of
    `step` times the weight's root mean square with entropy coding. Other weights are in fp32, or in fp16 with another storage.
    Training uses the rounded coefficients.
    Without training, BatchNorm is corrected by `recalibrate` unlabelled images. `lr`, `batch`, `weight_decay`, `epochs` and
    `milestones` are the training at the `paper` budget.
    """

    points: tuple[tuple[Groups, Positive], ...] = ((4, 0.125), (4, 0.25), (4, 1.0), (8, 0.5), (8, 1.0))
    schedule: Schedule = "progressive"
    order: Literal["tour", "given"] = "tour"
    skip: tuple[str, ...] = ()
    storage: Literal["float32", "float16", "uniform"] = "float32"
    step: Positive = 0.1
    recalibrate: Images = 500
    lr: Positive = 0.00025
    batch: Count = 64
    weight_decay: NotNegative = 1e-4
    epochs: Count = 1
    milestones: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        if not self.points or len(set(self.points)) < len(self.points):
            raise ValueError("points needs at least one pair, and each pair once")
        if self.schedule == "uniform" and any(rate < 1 for _, rate in self.points):
            raise ValueError(
                "a rate of the schedule 'uniform' is the ratio of coefficients: points has to have rates of at least 1"
            )

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.points), self.epochs)


def unsupported(task: Task, config: Config) -> str | None:
    """Why a network has no weight to reorder, in one sentence; None if it has some."""
    network = blueprint.skeleton(task.architecture, task.arguments, {}, {})
    try:
        for groups in dict.fromkeys(groups for groups, _ in config.points):
            if not weights(network, groups, config.skip):
                return f"{task.architecture} has no weight to reorder that divides into {groups} rows"
    except MethodError as error:
        return str(error)
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per pair of rows and rate. The tours of all weights are computed once for each number of rows."""
    storage.check_names(task)
    training = trains(run.budget)
    items = 0 if training else config.recalibrate
    known = control_variate.control(task.reference(), task, items)
    analyses: dict[int, dict[str, Reordered]] = {}
    for (groups, rate), epochs in zip(config.points, config.operating_points(run.budget), strict=True):
        network = task.reference()
        found = weights(network, groups, config.skip)
        if groups not in analyses:
            run.progress(f"tours through {len(found)} weights of {groups} rows")
            analyses[groups] = _analysed(found, groups, config.order)
        ratios = rates(found, rate, config.schedule)
        low = {
            path: full.lowest(kept_frequencies(full.columns, ratios[path])) for path, full in analyses[groups].items()
        }
        notes = _notes(low, analyses[groups])
        if training:
            sources = {path: Source(own) for path, own in low.items()}
            generated = Generated(network, sources)
            on_steps = OnSteps(generated.sources, _steps(low, found, config)) if config.storage == "uniform" else None
            recipe = _recipe(config, run.budget, epochs)
            fit(generated, task, run, recipe, f"point {groups} {rate:g}", None, on_steps)
            low = {
                path: Reordered(source.coefficients.detach().numpy(), low[path].inverse, low[path].shape)
                for path, source in sources.items()
            }
        others = {
            path: values for path, values in storage.matrices(storage.tensors(network)).items() if path not in low
        }
        parts = [
            part(list(low), list(low.values()), _coefficients(low, found, config)),
            *storage.stored_raw(others, "float32" if config.storage == "float32" else "float16"),
        ]
        storage.fill(network, parts)
        control_variate.correct(network, task, items, known)
        yield describe(task, network, Slim(), parts, {"groups": groups, "rate": rate}, notes)


def _analysed(found: Mapping[str, Tensor], groups: int, order: str) -> dict[str, Reordered]:
    """All coefficients of each weight; weights are independent, so that threads share them."""

    def analyse(weight: Tensor) -> Reordered:
        values = weight.numpy()
        return analysed(values, groups, tour(values.reshape(groups, -1)) if order == "tour" else None)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return dict(zip(found, pool.map(analyse, found.values()), strict=True))


def _notes(low: Mapping[str, Reordered], full: Mapping[str, Reordered]) -> dict[str, Json]:
    """The share of each weight's energy in its kept coefficients, and the paper's counts of coefficients and of indices."""
    energy = {
        path: round(float(np.square(low[path].coefficients).sum() / np.square(full[path].coefficients).sum()), 4)
        for path in low
        if full[path].coefficients.any()
    }
    coefficients = sum(own.coefficients.size for own in low.values())
    indices = sum(own.columns for own in low.values() if own.inverse is not None)
    return {"coefficients": coefficients, "indices": indices, "energy": energy}


def _coefficients(low: Mapping[str, Reordered], found: Mapping[str, Tensor], config: Config) -> Part:
    values = [own.coefficients for own in low.values()]
    if config.storage != "uniform":
        return raw.part(list(low), values, "weights", config.storage)
    steps = _steps(low, found, config)
    codes = [uniform.quantise(own, step)[0] for own, step in zip(values, steps, strict=True)]
    return uniform.part(list(low), codes, steps, "weights")


def _steps(low: Mapping[str, Reordered], found: Mapping[str, Tensor], config: Config) -> list[np.float32]:
    """The step of each weight's coefficients: that of the reference, also after training."""
    rms = (found[path].square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny) for path in low)
    return [np.float32(config.step * float(root)) for root in rms]


def _recipe(config: Config, budget: Budget, epochs: float) -> Recipe:
    """At the `paper` budget, images are not padded or mirrored. Those on disk are cropped at random (official: centres)."""
    optimiser = SGD(weight_decay=config.weight_decay)
    if budget.epochs is None:
        schedule = Multistep(config.milestones)
        return Recipe(epochs, config.lr, config.batch, optimiser, schedule, augmentation=Augmentation())
    return Recipe(epochs, learning_rate(budget, config.lr), config.batch, optimiser)
