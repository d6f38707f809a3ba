"""How the tensors of a network are stored: weights on a grid or raw, BatchNorm as the scale and shift that inference needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.bitstream import blueprint, codecs
from benchmarks.bitstream.codecs import constant, index, raw, uniform
from benchmarks.training.batchnorm import affine
from methods.families.slim import Slim
from methods.interface import Compressed, Json, Part, Task

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


def tensors(network: nn.Module, tied: Mapping[str, str] | None = None) -> Arrays:
    """All tensors that a file must contain, by path; they share memory with the network."""
    return {name: tensor.detach().numpy() for name, tensor in blueprint.state(network, tied or {}).items()}


def matrices(found: Arrays) -> Arrays:
    """The tensors with more than one dimension: weights of convolutions and linear layers."""
    return {name: values for name, values in found.items() if values.ndim > 1}


def step(values: npt.NDArray[Any], bits: int) -> np.float32:
    """The step of a symmetric grid of 2^bits − 1 levels that reaches the largest magnitude."""
    levels = 2 ** (bits - 1) - 1
    return np.float32(max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny)) / levels)


def grid(found: Arrays, bits: int) -> Part:
    """A part with each tensor rounded to its own grid (`step`) and entropy coded."""
    steps = {name: step(values, bits) for name, values in found.items()}
    codes = [uniform.quantise(values, steps[name])[0] for name, values in found.items()]
    return uniform.part(list(found), codes, list(steps.values()), "weights")


def stored_raw(found: Arrays, dtype: Literal["float32", "float16"]) -> list[Part]:
    """Parts with all tensors unchanged, except integers: first weights, then tensors of one dimension."""
    floats = {name: values for name, values in found.items() if values.dtype != np.int64}
    weights = matrices(floats)
    others = {name: values for name, values in floats.items() if name not in weights}
    return [
        raw.part(list(weights), list(weights.values()), "weights", dtype),
        raw.part(list(others), list(others.values()), "norm_bias", dtype),
    ]


def norm_parts(network: nn.Module, others: Arrays) -> list[Part]:
    """Parts with BatchNorm as scale and shift (running mean 0, variance 1 − ε) and the other tensors of `others`, all in fp16.

    `others` are the tensors that no other part fills, by path, including those of BatchNorm.
    """
    norms = {p: m for p, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and f"{p}.weight" in others}
    merged = {path: affine(norm) for path, norm in norms.items()}
    values: dict[str, Any] = {f"{path}.weight": scale for path, (scale, _) in merged.items()}
    values |= {f"{path}.bias": shift for path, (_, shift) in merged.items()}
    fixed = {f"{path}.{name}" for path in norms for name in ("weight", "bias", "running_mean", "running_var")}
    values |= {name: tensor for name, tensor in others.items() if name not in fixed}
    variances: dict[float, list[str]] = {}
    for path, norm in norms.items():
        variances.setdefault(1.0 - norm.eps, []).append(f"{path}.running_var")
    parts = [raw.part(list(values), list(values.values()), "norm_bias", "float16")] if values else []
    if norms:
        parts.append(constant.part([f"{path}.running_mean" for path in norms], 0.0, "norm_bias"))
    return parts + [constant.part(paths, value, "norm_bias") for value, paths in variances.items()]


@torch.no_grad()
def describe(
    task: Task,
    network: nn.Module,
    slim: Slim,
    coded: Sequence[Part],
    point: Mapping[str, Json],
    notes: Mapping[str, Json] | None = None,
) -> Compressed:
    """Describe the network: `coded` parts, all other integer tensors as indices, and BatchNorm and biases in fp16."""
    filled = {target for part in coded for target in part.targets}
    rest = {name: values for name, values in tensors(network, slim.tied).items() if name not in filled}
    order = [*slim.tensors, *rest]  # integer tensors in the order in which the method gives them
    places = {name: rest[name] for name in order if name in rest and rest[name].dtype == np.int64}
    parts = [*coded, *norm_parts(network, {name: values for name, values in rest.items() if name not in places})]
    if places:
        limit = 1 + max(int(values.max()) for values in places.values())
        parts.append(index.part(list(places), list(places.values()), limit))
    return Compressed(
        task.architecture, task.arguments, tuple(parts), point, slim.edits, slim.tied, notes=dict(notes or {})
    )


@torch.no_grad()
def fill(network: nn.Module, parts: Sequence[Part]) -> None:
    """Set the network's tensors, in place, to the values that the decoder will reconstruct from the parts."""
    known = blueprint.state(network)
    for part in parts:
        coded = codecs.get(part.codec).encode(part)
        shapes = [tuple(known[target].shape) for target in part.targets]
        arrays = codecs.get(part.codec).decode(coded.meta, [stream for _, stream in coded.streams], shapes)
        for target, array in zip(part.targets, arrays, strict=True):
            known[target].copy_(torch.from_numpy(array))
