"""Uniform quantisation with entropy coding: one step for the whole network, or one per channel, scaled by BatchNorm.

Scalar quantisation with two post-training corrections that cost no bytes: BatchNorm statistics follow what rounding
changed, and the four vectors of a BatchNorm are merged into the two that inference needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.bitstream.codecs import constant, raw, uniform
from benchmarks.training import control_variate
from benchmarks.training.batchnorm import affine, conv_bn_pairs
from benchmarks.training.control_variate import Control
from methods.families import storage
from methods.families.limits import Images, Positive, check_order
from methods.families.norms import norm_parts
from methods.interface import CLASSIFICATION, IMAGE_CODING, REGRESSION, Budget, Card, Compressed, Part, Run, Task

CARD = Card(
    key="uniform",
    title="Uniform quantisation, entropy coded",
    authors=(),
    venue="",
    year=2026,
    families=("quantisation", "entropy coding"),
    fidelity="baseline",
    kinds=(CLASSIFICATION, REGRESSION, IMAGE_CODING),
)


@dataclass(frozen=True)
class Config:
    """`steps` are multiples of the root mean square of all quantised weights, one operating point each.

    `grid` "tensor" uses the same step everywhere; "batchnorm" divides it, for each output channel, by √(γ/σ) of the
    BatchNorm that follows. `recalibrate` is the number of unlabelled images by which BatchNorm is corrected (0: it is not).
    """

    steps: tuple[Positive, ...] = (0.025, 0.1, 0.3, 0.5, 0.75, 1.1, 1.6, 2.3, 3.5)
    grid: Literal["tensor", "batchnorm"] = "tensor"
    recalibrate: Images = 500

    def __post_init__(self) -> None:
        check_order("steps", self.steps)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.steps)


def unsupported(task: Task, config: Config) -> str | None:
    """None; a network with tied weights, or one that can't be traced, is refused when it is compressed."""
    return None


@torch.no_grad()
def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per step, fine to coarse."""
    storage.check_names(task)
    layers = storage.layers(task.reference()).values()
    rms = torch.cat([m.weight.flatten() for m in layers]).square().mean().sqrt().item()
    known = control_variate.control(task.reference(), task, config.recalibrate)
    for relative in config.steps:
        network = task.reference()
        parts = _quantised(task, network, config, relative * rms, known)
        filled = {target for part in parts for target in part.targets}
        rest = {name: values for name, values in storage.tensors(network).items() if name not in filled}
        everything = (*parts, *norm_parts(network, rest))
        yield Compressed(task.architecture, task.arguments, everything, {"step": relative})


def _quantised(task: Task, network: nn.Module, config: Config, step: float, known: Control) -> list[Part]:
    """Round all weights and correct BatchNorm, in place; parts with the layers and each BatchNorm that follows one.

    A step per channel costs no bytes: weights are multiplied by f before rounding, and BatchNorm is divided by f.
    """
    modules = dict(network.named_modules())
    layers = storage.layers(network)
    pairs = {conv: bn for conv, bn in conv_bn_pairs(network).items() if conv in layers}
    stretch = {conv: _stretch(modules[bn], config.grid) for conv, bn in pairs.items()}
    codes, steps = {}, {}
    for path, layer in layers.items():
        f = stretch.get(path, torch.ones(1)).view(-1, *[1] * (layer.weight.ndim - 1))
        codes[path], steps[path] = uniform.quantise((layer.weight * f).numpy(), step)
        layer.weight.copy_(torch.from_numpy(uniform.dequantise(codes[path], steps[path])) / f)
    control_variate.correct(network, task, config.recalibrate, known)
    parts = [uniform.part([f"{path}.weight" for path in codes], list(codes.values()), list(steps.values()), "weights")]
    for conv, bn in pairs.items():
        scale, shift = affine(modules[bn])
        if (bias := modules[conv].bias) is not None:
            bias *= stretch[conv]
        parts += _merged(bn, scale / stretch[conv], shift, modules[bn].eps)
    biases = [path for path in codes if modules[path].bias is not None]
    if biases:
        parts.append(raw.part([f"{p}.bias" for p in biases], [modules[p].bias for p in biases], "norm_bias", "float16"))
    return parts


def _stretch(bn: nn.BatchNorm2d, grid: str) -> Tensor:
    """Factor per channel that multiplies the weights before rounding: √(γ/σ), bounded below because dead channels have 0."""
    if grid == "tensor":
        return torch.ones(bn.num_features)
    return affine(bn)[0].abs().clamp_min(1e-4).sqrt()


def _merged(bn: str, scale: Tensor, shift: Tensor, eps: float) -> list[Part]:
    """BatchNorm as scale and shift in fp16, with running mean 0 and variance 1 − ε."""
    return [
        raw.part([f"{bn}.weight", f"{bn}.bias"], [scale, shift], "norm_bias", "float16"),
        constant.part([f"{bn}.running_mean"], 0.0, "norm_bias"),
        constant.part([f"{bn}.running_var"], 1.0 - eps, "norm_bias"),
    ]
