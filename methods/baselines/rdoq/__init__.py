"""Rate-distortion optimised quantisation without training or labels.

Weights are rounded column by column, to the integer with the least cost of error and rate, and later columns answer each
error (OBQ, GPTQ). BatchNorm's statistics are corrected with the reference as a control variate, and the integers are
context-coded. Optionally, the step of each output channel follows from its sensitivity and the variance of its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmarks.bitstream.codecs import uniform
from benchmarks.training import control_variate
from benchmarks.training.batchnorm import affine, conv_bn_pairs, reestimate
from methods.families import curvature, feedback, storage
from methods.families.curvature import Curvature
from methods.families.feedback import Spread
from methods.families.limits import Count, NotNegative, Positive, check_order
from methods.families.norms import norm_parts
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card(
    key="rdoq",
    title="Rate-distortion optimised quantisation with error feedback",
    authors=(),
    venue="",
    year=2026,
    families=("quantisation", "entropy coding"),
    fidelity="baseline",
)
LEAST_CHANGE = 0.3  # steps by channel follow from at least this share of the layer's mean change of the outputs
LEAST_IMPORTANT = 0.01  # of a weight, where its rate is weighed against its error


@dataclass(frozen=True)
class Config:
    """`steps` are multiples of the root mean square of all weights, in geometric mean over the weights; a point each.

    `grid` "tensor": one step for all weights; "channel": steps by output channel that change the outputs alike, found with
    `projections` of the outputs. `feedback`: later columns answer the error of a column. `rate` weighs the cost of
    magnitudes, in squared steps for a bit. `batchnorm` says how statistics are corrected, `coder` how integers are coded.
    The covariances of the inputs come from `items` unlabelled images, which also correct BatchNorm, and are damped by a
    share of the mean variance.
    """

    steps: tuple[Positive, ...] = (0.3, 0.5, 0.75, 1.0, 1.3, 1.6, 2.0, 2.5)
    grid: Literal["tensor", "channel"] = "tensor"
    feedback: bool = True
    rate: NotNegative = 0.04
    batchnorm: Literal["control", "reestimate", "none"] = "control"
    coder: Literal["context", "static"] = "context"
    items: Count = 500
    projections: Annotated[int, Meta(ge=1, le=1000)] = 4
    damping: Annotated[float, Meta(gt=0, le=1)] = 0.02

    def __post_init__(self) -> None:
        check_order("steps", self.steps)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.steps)


def unsupported(task: Task, config: Config) -> str | None:
    """None; a network with tied weights, or one that can't be traced, is refused when it is compressed."""
    return None


@torch.no_grad()
def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per step, fine to coarse; the statistics are measured once for all."""
    storage.check_names(task)
    layers = _layers(task.reference().to(run.device), task, config)
    rms = torch.cat([layer.weights.flatten() for layer in layers]).square().mean().sqrt()
    known = control_variate.control(task.reference(), task, config.items if config.batchnorm == "control" else 0)
    for relative in config.steps:
        network = task.reference()
        codes = [_round(layer, network, relative * rms, config.rate) for layer in layers]
        if config.batchnorm == "control":
            control_variate.correct(network, task, config.items, known)
        elif config.batchnorm == "reestimate":
            reestimate(network, task, config.items)
        steps = [_store(layer, network, relative * rms) for layer in layers]
        targets = [f"{layer.path}.weight" for layer in layers]
        rest = {name: values for name, values in storage.tensors(network).items() if name not in targets}
        weights = uniform.part(targets, codes, steps, "weights", config.coder == "context")
        parts = (weights, *norm_parts(network, rest))
        yield Compressed(task.architecture, task.arguments, parts, {"step": relative})


@dataclass(frozen=True)
class _Layer:
    """A layer of the reference as matrices (groups, rows, size), and what is known about it.

    `unit` (groups, rows, 1) is the step of each output channel, in the geometric mean 1 over all weights of the network.
    `importance` (groups, rows, size) is what an error of one step changes, relative to the typical weight of the layer.
    `norm` is the BatchNorm that alone reads the layer's outputs.
    """

    path: str
    weights: Tensor
    kernel: int
    mean: Tensor
    spread: Spread
    unit: Tensor
    importance: Tensor
    norm: str | None


def _layers(network: nn.Module, task: Task, config: Config) -> list[_Layer]:
    """The layers of the reference with their steps and what is known about their inputs."""
    pairs = conv_bn_pairs(network)
    layers = curvature.layers(network)
    by_channel = config.grid == "channel"
    found = curvature.measured(network, task, config.items, config.projections if by_channel else 0)
    spreads = {}
    for path, layer in layers.items():
        corrected = config.batchnorm != "none" if path in pairs else layer.bias is not None
        spreads[path] = feedback.spread(found[path], config.damping, config.feedback, centred=corrected)
    units = _units(found, spreads) if by_channel else {path: torch.ones(1, 1, 1) for path in layers}
    made = []
    for path, layer in layers.items():
        inputs, (groups, size) = spreads[path], found[path].mean.shape
        matrices, kernel = layer.weight.double().reshape(groups, -1, size), layer.weight[0, 0].numel()
        unit = units[path].to(matrices).expand(*matrices.shape[:2], 1)
        importance = (inputs.variances / inputs.typical)[:, None]
        if by_channel:  # less than 1 where the step is not as large as it would be without a floor
            changes = _changes(found[path], inputs)
            importance = importance * changes / _floored(changes)
        made.append(_Layer(path, matrices, kernel, found[path].mean, inputs, unit, importance, pairs.get(path)))
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


def _round(layer: _Layer, network: nn.Module, step: Tensor, rate: float) -> npt.NDArray[np.int64]:
    """Round a layer of `network` in place; returns integers shaped like its weight."""
    module, scaled = network.get_submodule(layer.path), layer.weights / (layer.unit * step)
    codes = feedback.rounded(scaled, layer.spread)
    if rate:
        costs = rate * feedback.bits_per_unit(codes, layer.kernel) / layer.importance.clamp_min(LEAST_IMPORTANT)
        codes = feedback.rounded(scaled, layer.spread, costs)
    found = codes * layer.unit * step
    if layer.norm is None and module.bias is not None:
        module.bias += ((layer.weights - found) @ layer.mean[:, :, None]).flatten().to(module.bias)
    module.weight.copy_(found.reshape(module.weight.shape))
    return codes.reshape(module.weight.shape).cpu().numpy().astype(np.int64)


def _store(layer: _Layer, network: nn.Module, step: Tensor) -> npt.NDArray[np.float32]:
    """The stored step, in fp32: one by channel or, if BatchNorm can hold the rest of it, in place, one for the layer."""
    steps = (layer.unit * step).flatten().float().cpu()
    if layer.norm is None:
        return steps.numpy()
    common = steps.log().mean().exp()
    convolution, norm = network.get_submodule(layer.path), network.get_submodule(layer.norm)
    scale, shift = affine(norm)
    norm.weight.copy_(scale * steps / common), norm.bias.copy_(shift)
    norm.running_mean.zero_(), norm.running_var.fill_(1 - norm.eps)
    if convolution.bias is not None:
        convolution.bias *= common / steps
    return common.numpy()
