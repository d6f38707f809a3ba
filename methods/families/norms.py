"""BatchNorm as the scale and shift that inference needs."""

from __future__ import annotations

from typing import Any

from torch import nn

from benchmarks.bitstream.codecs import constant, raw
from benchmarks.training.batchnorm import affine
from methods.families.storage import Arrays
from methods.interface import Part


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
