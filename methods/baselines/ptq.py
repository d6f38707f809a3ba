"""Weights and activations on uniform grids without training: clip ranges of least squared error, and corrected BatchNorm.

Each layer has one grid for its weight and one for its inputs. The first and the last layer have 8 bits; the first reads
images as they are. Clip ranges of inputs come from unlabelled images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from msgspec import Meta

from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from benchmarks.evaluation import bops
from benchmarks.training import control_variate
from methods.families import quantised_activations as layers
from methods.families import storage
from methods.families.budget import epochs_per_point
from methods.families.description import describe
from methods.families.limits import Bits, check_order
from methods.families.slim import Slim
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card(
    key="ptq",
    title="Post-training quantisation of weights and activations",
    authors=(),
    venue="",
    year=2026,
    families=("quantisation",),
    fidelity="baseline",
)
Items: TypeAlias = Annotated[int, Meta(ge=1, le=10**7)]


@dataclass(frozen=True)
class Config:
    """`bits` of weights and inputs, one operating point each; `recalibrate` is the number of unlabelled images."""

    bits: tuple[Bits, ...] = (8, 6, 4, 3, 2)
    recalibrate: Items = 500

    def __post_init__(self) -> None:
        check_order("bits", self.bits, rising=False)

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.bits), 0.0)


def unsupported(task: Task, config: Config) -> str | None:
    """Needs three layers that can be quantised."""
    try:
        return layers.obstacle(blueprint.skeleton(task.architecture, task.arguments, {}, {}), normalise=False)
    except MethodError as error:
        return str(error)


@torch.no_grad()
def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per number of bits; its notes are the bit operations, and their ratio to those of the uncompressed network."""
    storage.check_names(task)
    paths = list(storage.layers(task.reference()))
    seen = layers.seen(task.reference(), task, config.recalibrate, paths)
    known = control_variate.control(task.reference(), task, config.recalibrate)
    example = task.prepare(task.calibration(1).inputs)
    whole = bops.count(task.reference(), example)
    for bits in config.bits:
        network = task.reference()
        layers.wrap(network, layers.bits_of(paths, bits), seen, normalise=False, start="calibrated")
        weights, decoded, edits = layers.parts(network)
        control_variate.correct(decoded, task, config.recalibrate, known)
        operations = bops.count(decoded, example)
        notes = {"bops": operations, "bops_ratio": round(whole / operations, 2)}
        yield describe(task, decoded, Slim(edits), [weights], {"bits": bits}, notes)
