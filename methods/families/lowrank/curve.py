"""From a decomposition to operating points: build the factorised network, train it if the budget allows, and describe it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn

from benchmarks import bitstream
from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import uniform
from benchmarks.errors import MethodError
from benchmarks.training import Multistep, Recipe, control_variate, fit
from benchmarks.training.batchnorm import conv_bn_pairs
from benchmarks.training.control_variate import Control
from methods.families import grid, rounding, storage
from methods.families.budget import epochs_per_point, learning_rate, trains
from methods.families.description import describe
from methods.families.grid import OnGrid
from methods.families.limits import Bits, Count, Images, Positive, Ratio, check_order
from methods.families.lowrank.layers import groups
from methods.families.lowrank.unfolding import RankError
from methods.families.slim import Slim
from methods.interface import Budget, Compressed, Json, Part, Run, Task

LEARNING_RATE, SHORT_LEARNING_RATE = 0.1, 0.02  # at the `paper` budget, and for a few epochs


@dataclass(frozen=True)
class Settings:
    """The settings of all low-rank methods.

    `rates` are values of ρ, one operating point each: a layer of O outputs gets a rank of about ρ·O. `ratios` gives target
    ratios in bytes instead, and ρ is searched. `paper_rates` are used at the `paper` budget. `storage` sets how all weights
    are coded: raw, or on a uniform grid of 2^bits − 1 levels per tensor with entropy coding; training then uses the weights
    on the grid. "rdoq" has the same steps, and the rounding of the baseline of that name after any training. `start` "scratch"
    trains the structure from random weights. `recalibrate` is the number of unlabelled images by which BatchNorm is corrected
    without training, and from which "rdoq" learns what inputs are like. `warmup` holds the learning rates of the epochs that
    precede the `epochs` of the `paper` budget.
    """

    rates: tuple[Positive, ...] = (1.5, 1.0, 0.5, 0.25, 0.125)
    ratios: tuple[Ratio, ...] = ()
    paper_rates: tuple[Positive, ...] = (0.08, 0.04)
    storage: Literal["float32", "float16", "uniform", "rdoq"] = "float32"
    bits: Bits = 8
    start: Literal["pretrained", "scratch"] = "pretrained"
    recalibrate: Images = 0
    epochs: Count = 300
    milestones: tuple[Count, ...] = (140, 200, 250)
    warmup: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        check_order("rates", self.rates, rising=False)
        check_order("paper_rates", self.paper_rates, rising=False)
        check_order("ratios", self.ratios, empty=True)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones have to rise")
        if self.storage == "rdoq" and not self.recalibrate:
            raise ValueError("storage 'rdoq' needs images: set recalibrate")

    def goals(self, budget: Budget) -> tuple[float, ...]:
        """Ratios or rates, one operating point each."""
        return self.ratios or (self.paper_rates if budget.epochs is None else self.rates)

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.goals(budget)), self.epochs + len(self.warmup))


Decompose: TypeAlias = Callable[[nn.Module, float], Slim]


def unsupported(task: Task) -> str | None:
    """Why a task's network has no layers to factorise, in one sentence; None if it has some."""
    try:
        if not groups(blueprint.skeleton(task.architecture, task.arguments, {}, {})):
            return f"needs the repeated blocks of a ResNet (layer2.0.conv1 …), which {task.architecture} does not have"
    except MethodError as error:
        return str(error)
    return None


def weights(network: nn.Module) -> int:
    """Number of values in weights and biases without BatchNorm, shared factors once: the size that low-rank papers count."""
    norms = {p for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    return sum(p.numel() for p in network.parameters() if p not in norms)


def curve(task: Task, config: Settings, run: Run, decompose: Decompose) -> Iterator[Compressed]:
    """One point per rate or ratio, each decomposed from the reference and trained separately.

    The label `cf` is the ratio of `weights` before and after.
    """
    storage.check_names(task)
    training = trains(run.budget)
    if config.start == "scratch" and not training:
        raise MethodError("start 'scratch' needs a budget with training: post-training has none")
    if config.storage == "rdoq":
        conv_bn_pairs(task.reference())  # refuses a network that can't be traced, before any training
    items = 0 if training and config.storage != "rdoq" else config.recalibrate
    known = control_variate.control(task.reference(), task, 0 if training else items)
    for goal, epochs in zip(config.goals(run.budget), config.operating_points(run.budget), strict=True):
        reference = task.reference()
        if config.ratios:
            rate, slim = _at_ratio(task, config, run, reference, decompose, goal, None if training else known)
            label: dict[str, Json] = {"target": goal, "rate": rate}
        else:
            slim, label = decompose(reference, goal), {"rate": goal}
        network = slim.realise(task, reference)
        if config.start == "scratch":
            initialise(network, run.generator("init", str(goal)))
        if training:
            on_grid = OnGrid(network, config.bits) if config.storage == "uniform" else None
            fit(network, task, run, _recipe(config, run.budget, epochs), f"point {goal}", None, on_grid)
            known = control_variate.control(network, task, items)
        rounded = _rounded(task, run, network, slim, config, None if training else known)
        control_variate.correct(network, task, items, known)
        cf = round(weights(reference) / weights(network), 3)
        yield _described(task, config, network, slim, rounded, {**label, "cf": cf})


def _recipe(config: Settings, budget: Budget, epochs: float) -> Recipe:
    if budget.epochs is None:
        warmup = tuple(rate / LEARNING_RATE for rate in config.warmup)
        return Recipe(epochs, LEARNING_RATE, schedule=Multistep(config.milestones, warmup=warmup), decay_norm=False)
    return Recipe(epochs, learning_rate(budget, SHORT_LEARNING_RATE), decay_norm=False)


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Random weights as in the paper's code: truncated normal, σ = 0.01; BatchNorm reset, biases zero."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.01, a=-0.02, b=0.02, generator=generator)
        elif not isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d):
            parameter.zero_()


def _at_ratio(
    task: Task,
    config: Settings,
    run: Run,
    reference: nn.Module,
    decompose: Decompose,
    goal: float,
    known: Control | None,
) -> tuple[float, Slim]:
    """The largest rate, to 0.1 %, whose file is at most 1/goal of the reference's fp32 bytes, before any training."""
    allowed = task.uncompressed_bytes / goal
    low, high = 0.0, 0.02
    best: tuple[float, Slim] | None = None
    growing = True
    while high - low > 0.001 * high:
        rate = high if growing else (low + high) / 2
        try:
            found = decompose(reference, rate)
            network = found.realise(task, reference)
            described = _described(task, config, network, found, _rounded(task, run, network, found, config, known), {})
            fits = len(bitstream.encode(described)) <= allowed
        except RankError:  # the rate is too high
            fits = False
        if fits:
            low, best = rate, (round(rate, 5), found)
            high = 2 * rate if growing else high
        else:
            growing, high = False, rate
        if high < 1e-3:
            break
    if best is None:
        msg = f"a ratio of {goal} can't be reached: the tensors that are not decomposed take more bytes"
        raise MethodError(msg)
    return best


@torch.no_grad()
def _rounded(
    task: Task, run: Run, network: nn.Module, slim: Slim, config: Settings, known: Control | None
) -> list[Part]:
    """The part with all weights on a grid; also rounds the network's weights in place. Empty if they are stored raw.

    With `known`, the network was not trained, and BatchNorm is corrected before inputs of layers are measured.
    """
    if config.storage not in ("uniform", "rdoq"):
        return []
    weights = storage.matrices(storage.tensors(network, slim.tied))
    if config.storage == "rdoq":
        if known is not None:
            control_variate.correct(network, task, config.recalibrate, known)
        return [rounding.part(network, task, config.recalibrate, weights, config.bits, run.device)]
    part = grid.part(weights, config.bits)
    for values, codes, step in zip(weights.values(), part.data["codes"], part.data["steps"], strict=True):
        values[...] = uniform.dequantise(codes, step)
    return [part]


def _described(
    task: Task, config: Settings, network: nn.Module, slim: Slim, rounded: list[Part], point: Mapping[str, Json]
) -> Compressed:
    """The parts of a file: everything raw, or weights as `rounded` and BatchNorm as the two vectors that inference needs."""
    if config.storage in ("float32", "float16"):
        rounded = storage.stored_raw(storage.tensors(network, slim.tied), config.storage)
    return describe(task, network, slim, rounded, point)
