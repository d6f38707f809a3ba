"""Rate-distortion optimised quantisation, without training or labels, and with training after that.

Weights are rounded column by column, to the integer with the least cost of error and rate, and later columns answer each
error (OBQ, GPTQ); then single integers are changed where that is better. BatchNorm's statistics are corrected with the
reference as a control variate, and the integers are context-coded. Optionally, the step of each output channel follows from
its sensitivity and the variance of its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmarks.bitstream.codecs import uniform
from benchmarks.errors import MethodError
from benchmarks.training import SGD, Recipe, control_variate, fit
from benchmarks.training.batchnorm import affine, conv_bn_pairs, reestimate
from methods.baselines.rdoq.training import OnSteps, Start, Terms
from methods.families import curvature, feedback, rounding, storage
from methods.families.budget import epochs_per_point, learning_rate, trains
from methods.families.curvature import Curvature
from methods.families.feedback import Spread
from methods.families.limits import Count, NotNegative, Positive, check_order
from methods.families.norms import norm_parts
from methods.families.rounding import Weight
from methods.interface import CLASSIFICATION, IMAGE_CODING, REGRESSION, Budget, Card, Compressed, Run, Task

CARD = Card(
    key="rdoq",
    title="Rate-distortion optimised quantisation with error feedback",
    authors=(),
    venue="",
    year=2026,
    families=("quantisation", "entropy coding"),
    fidelity="baseline",
    budgets=("post-training", "short"),
    kinds=(CLASSIFICATION, REGRESSION, IMAGE_CODING),
)
LEARNING_RATE = 0.01
LEAST_CHANGE = 0.3  # steps by channel follow from at least this share of the layer's mean change of the outputs


@dataclass(frozen=True)
class Config:
    """`steps` are multiples of the root mean square of all weights, in geometric mean over the weights; a point each.

    `short_steps` are those of points that are trained, each from the network of the same step without training.
    `grid` "tensor": one step for all weights; "channel": steps by output channel that change the outputs alike, found with
    `projections` of the outputs. `feedback`: later columns answer the error of a column, and `sweeps` over all integers
    improve on that. `rate` weighs the cost of magnitudes, in squared steps for a bit. `batchnorm` says how statistics are
    corrected, `coder` how integers are coded. The covariances of the inputs come from `items` unlabelled images, which also
    correct BatchNorm, and are damped by a share of the mean variance. Training adds `price` nats to the loss for a bit of each
    weight and, where the task is classification, the divergence from the reference.
    """

    steps: tuple[Positive, ...] = (0.3, 0.5, 0.75, 1.0, 1.3, 1.6, 2.0, 2.5, 3.2)
    short_steps: tuple[Positive, ...] = (1.0, 1.3, 1.6, 2.0, 2.5, 3.2)
    grid: Literal["tensor", "channel"] = "tensor"
    feedback: bool = True
    rate: NotNegative = rounding.RATE
    sweeps: Annotated[int, Meta(ge=0, le=100)] = rounding.SWEEPS
    batchnorm: Literal["control", "reestimate", "none"] = "control"
    coder: Literal["context", "static"] = "context"
    price: NotNegative = 1.0
    items: Count = 500
    projections: Annotated[int, Meta(ge=1, le=1000)] = 4
    damping: Annotated[float, Meta(gt=0, le=1)] = rounding.DAMPING

    def __post_init__(self) -> None:
        check_order("steps", self.steps)
        check_order("short_steps", self.short_steps)

    def grids(self, budget: Budget) -> tuple[float, ...]:
        return self.short_steps if trains(budget) else self.steps

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.grids(budget)), 0.0)


def unsupported(task: Task, config: Config) -> str | None:
    """None; a network with tied weights, or one that can't be traced, is refused when it is compressed."""
    return None


@torch.no_grad()
def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per step, fine to coarse; the statistics are measured once for all."""
    storage.check_names(task)
    layers = _layers(task.reference().to(run.device), task, config)
    rms = torch.cat([layer.weight.matrices.flatten() for layer in layers]).square().mean().sqrt()
    known = control_variate.control(task.reference(), task, config.items if config.batchnorm == "control" else 0)
    for relative, epochs in zip(config.grids(run.budget), config.operating_points(run.budget), strict=True):
        network = task.reference()
        codes = [_round(layer, network, relative * rms, config) for layer in layers]
        if config.batchnorm == "control":
            control_variate.correct(network, task, config.items, known)
        elif config.batchnorm == "reestimate":
            reestimate(network, task, config.items)
        common = [relative * rms for _ in layers]
        if trains(run.budget):
            quantised = OnSteps(network, _starts(layers, codes, relative * rms))
            rate = learning_rate(run.budget, LEARNING_RATE)
            recipe = Recipe(epochs, rate, optimiser=SGD(weight_decay=0.0))
            teacher = task.reference().to(run.device) if task.kind == CLASSIFICATION else None
            terms = Terms(quantised, config.price, teacher)
            fit(quantised, task, run, recipe, f"step {relative}", None, terms)
            codes, common = quantised.codes(), list(quantised.steps)
            if min(common) <= 0:
                raise MethodError("a step became negative in training: train with a lower learning rate")
        steps = [_store(layer, network, step) for layer, step in zip(layers, common, strict=True)]
        integers = [rounding.integers(network, layer.name, own) for layer, own in zip(layers, codes, strict=True)]
        targets = [layer.name for layer in layers]
        rest = {name: values for name, values in storage.tensors(network).items() if name not in targets}
        weights = uniform.part(targets, integers, steps, "weights", config.coder == "context")
        parts = (weights, *norm_parts(network, rest))
        yield Compressed(task.architecture, task.arguments, parts, {"step": relative})


@dataclass(frozen=True)
class _Layer:
    """A layer of the reference: its weight (groups, rows, size) by name, and what is known about it.

    `unit` (groups, rows, 1) is the step of each output channel, in the geometric mean 1 over all weights of the network.
    `importance` (groups, rows, size) is what an error of one step changes, relative to the typical weight of the layer.
    `norm` is the BatchNorm that alone reads the layer's outputs.
    """

    name: str
    weight: Weight
    unit: Tensor
    importance: Tensor
    norm: str | None


def _layers(network: nn.Module, task: Task, config: Config) -> list[_Layer]:
    """The layers of the reference with their steps and what is known about their inputs."""
    pairs, by_channel = conv_bn_pairs(network), config.grid == "channel"
    found = curvature.measured(network, task, config.items, config.projections if by_channel else 0)
    known = rounding.weights(network, found, config.damping, config.feedback, config.batchnorm != "none")
    weights = {name: weight for names, weight in known for name in names}
    spreads = {path: weights[f"{path}.weight"].spread for path in found}
    units = _units(found, spreads) if by_channel else {path: torch.ones(1, 1, 1) for path in found}
    made = []
    for path, inputs in spreads.items():
        weight, importance = weights[f"{path}.weight"], inputs.importance
        unit = units[path].to(weight.matrices).expand(*weight.matrices.shape[:2], 1)
        if by_channel:  # less than 1 where the step is not as large as it would be without a floor
            changes = _changes(found[path], inputs)
            importance = importance * changes / _floored(changes)
        made.append(_Layer(f"{path}.weight", weight, unit, importance, pairs.get(path)))
    return made


def _changes(known: Curvature, inputs: Spread) -> Tensor:
    """(groups, rows, 1): the squared change of the outputs by an error of 1 in a typical column of an output channel."""
    return (known.sensitivity * inputs.typical)[:, :, None]


def _floored(changes: Tensor) -> Tensor:
    return changes.clamp_min(LEAST_CHANGE * float(changes.mean())).clamp_min(torch.finfo(torch.float32).tiny)


def _units(found: Mapping[str, Curvature], spreads: Mapping[str, Spread]) -> dict[str, Tensor]:
    """Steps (groups, rows, 1) whose errors change the outputs alike: at a given rate, the squared change is least.

    They are 1 in a layer that changes nothing.
    """
    logs = {path: _floored(_changes(known, spreads[path])).log() for path, known in found.items()}
    alive = {path: log for path, log in logs.items() if found[path].sensitivity.any()}
    sizes = {path: found[path].mean.shape[1] * log.numel() for path, log in alive.items()}
    typical = sum(log.mean() * sizes[path] for path, log in alive.items()) / max(sum(sizes.values()), 1)
    return {path: ((typical - log) / 2).exp() if path in alive else torch.ones_like(log) for path, log in logs.items()}


def _round(layer: _Layer, network: nn.Module, step: Tensor, config: Config) -> Tensor:
    """Round a layer of `network` in place; returns integers (groups, rows, size)."""
    steps = layer.unit * step
    codes = rounding.rounded(layer.weight, steps, config.rate, config.sweeps, layer.importance)
    rounding.put(network, layer.name, layer.weight, codes * steps)
    return codes


def _starts(layers: Sequence[_Layer], codes: Sequence[Tensor], step: Tensor) -> dict[str, Start]:
    found = {}
    for layer, own in zip(layers, codes, strict=True):
        wanted = feedback.wanted(layer.weight.matrices / (layer.unit * step), own, layer.weight.spread)
        found[layer.name] = Start(own.cpu(), wanted.cpu(), float(step), layer.unit.cpu(), layer.weight.kernel)
    return found


def _store(layer: _Layer, network: nn.Module, step: Tensor) -> npt.NDArray[np.float32]:
    """The stored step, in fp32: one by channel or, if BatchNorm can hold the rest of it, in place, one for the layer."""
    steps = (layer.unit * step).flatten().float().cpu()
    if layer.norm is None:
        return steps.numpy()
    common = steps.log().mean().exp()
    convolution, norm = network.get_submodule(layer.name.removesuffix(".weight")), network.get_submodule(layer.norm)
    scale, shift = affine(norm)
    norm.weight.copy_(scale * steps / common), norm.bias.copy_(shift)
    norm.running_mean.zero_(), norm.running_var.fill_(1 - norm.eps)
    if convolution.bias is not None:
        convolution.bias *= common / steps
    return common.numpy()
