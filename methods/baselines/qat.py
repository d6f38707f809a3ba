"""Quantisation-aware training with one number of bits for the weights and inputs of all layers but the first and the last.

Clip ranges are trained, and the gradient of rounding is taken for 1. Weights of convolutions are normalised before they are
rounded, as in Single-path Bit Sharing (Liu et al., IEEE TPAMI 2023), of which this is the baseline with fixed bits. The first
and the last layer have 8 bits; the first reads images as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from benchmarks.evaluation import bops
from benchmarks.training import SGD, Multistep, Recipe, fit
from benchmarks.training.batchnorm import reestimate
from methods.families import quantised_activations as layers
from methods.families import storage
from methods.families.budget import epochs_per_point, learning_rate
from methods.families.description import describe
from methods.families.limits import Bits, Count, NotNegative, Positive, check_order
from methods.families.quantised_activations import Start
from methods.families.slim import Slim
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card(
    key="qat",
    title="Quantisation-aware training of weights and activations with fixed bits",
    authors=(),
    venue="",
    year=2026,
    families=("quantisation",),
    fidelity="baseline",
    budgets=("short", "paper"),
)
ITEMS = 500  # calibration items: for signs, clip ranges and BatchNorm at the start


@dataclass(frozen=True)
class Config:
    """`bits` of weights and inputs, one operating point each, all from the reference.

    Clip ranges `start` at 1, as published for SBS, or at least squared error. Training at the `paper` budget takes `epochs`
    from `lr`, divided by 10 at `milestones` or, without any, along a cosine.
    """

    bits: tuple[Bits, ...] = (8, 4, 3, 2)
    start: Start = "one"
    lr: Positive = 0.1
    batch: Count = 128
    weight_decay: NotNegative = 1e-4
    epochs: Count = 200
    milestones: tuple[Count, ...] = (80, 120)

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones have to rise")
        check_order("bits", self.bits, rising=False)

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.bits), self.epochs)


def unsupported(task: Task, config: Config) -> str | None:
    """Needs three layers that can be quantised, and BatchNorm."""
    try:
        return layers.obstacle(blueprint.skeleton(task.architecture, task.arguments, {}, {}), normalise=True)
    except MethodError as error:
        return str(error)


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per number of bits; its notes are the bit operations, and their ratio to those of the uncompressed network."""
    storage.check_names(task)
    paths = list(storage.layers(task.reference()))
    known = layers.seen(task.reference(), task, ITEMS, paths)
    example = task.prepare(task.calibration(1).inputs)
    whole = bops.count(task.reference(), example)
    for bits, epochs in zip(config.bits, config.operating_points(run.budget), strict=True):
        network = task.reference()
        layers.wrap(network, layers.bits_of(paths, bits), known, normalise=True, start=config.start)
        reestimate(network, task, ITEMS)  # normalised weights give other statistics
        fit(network, task, run, _recipe(config, run, epochs), f"{bits} bit", None, layers.Positive(network))
        weights, decoded, edits = layers.parts(network)
        operations = bops.count(decoded, example)
        notes = {"bops": operations, "bops_ratio": round(whole / operations, 2)}
        yield describe(task, decoded, Slim(edits), [weights], {"bits": bits}, notes)


def _recipe(config: Config, run: Run, epochs: float) -> Recipe:
    optimiser = SGD(weight_decay=config.weight_decay, nesterov=True)
    falls = run.budget.epochs is None and config.milestones
    schedule = Multistep(config.milestones) if falls else None
    return Recipe(epochs, learning_rate(run.budget, config.lr), config.batch, optimiser, schedule)
