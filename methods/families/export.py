"""What of a trained network goes into a file besides its weights: BatchNorm and biases, in the form that inference needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from benchmarks.bitstream.codecs import constant, raw
from benchmarks.training.batchnorm import affine
from methods.interface import Part


def norm_parts(network: nn.Module, others: Mapping[str, Any]) -> list[Part]:
    """BatchNorm as scale and shift in fp16, with running mean 0 and variance 1 − ε, and what else `others` holds, in fp16.

    `others` are tensors by path: all that no other part fills, those of BatchNorm among them.
    """
    norms = {path: m for path, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    merged = {path: affine(norm) for path, norm in norms.items()}
    values = {f"{path}.weight": scale for path, (scale, _) in merged.items()}
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
