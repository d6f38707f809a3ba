"""BatchNorm as the scale and shift that inference needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from benchmarks.bitstream.codecs import constant, raw
from benchmarks.training.batchnorm import affine, foldable
from methods.families.storage import Arrays, fits_fp16
from methods.interface import Part


def norm_parts(network: nn.Module, others: Arrays) -> list[Part]:
    """Parts with BatchNorm as scale and shift (running mean 0, variance 1 − ε) and the other tensors of `others`.

    `others` are the tensors that no other part fills, by path, including those of BatchNorm. A BatchNorm without γ and β or
    without running statistics keeps what it has. All values are in fp16, tensors beyond its range in fp32.
    """
    norms = {p: m for p, m in network.named_modules() if foldable(m) and f"{p}.weight" in others}
    merged = {path: affine(norm) for path, norm in norms.items()}
    values: dict[str, Any] = {f"{path}.weight": scale for path, (scale, _) in merged.items()}
    values |= {f"{path}.bias": shift for path, (_, shift) in merged.items()}
    fixed = {f"{path}.{name}" for path in norms for name in ("weight", "bias", "running_mean", "running_var")}
    values |= {name: tensor for name, tensor in others.items() if name not in fixed}
    variances: dict[float, list[str]] = {}
    for path, norm in norms.items():
        variances.setdefault(1.0 - norm.eps, []).append(f"{path}.running_var")
    wide = {name: tensor for name, tensor in values.items() if not fits_fp16(np.asarray(tensor))}
    half = {name: tensor for name, tensor in values.items() if name not in wide}
    parts = [raw.part(list(half), list(half.values()), "norm_bias", "float16")] if half else []
    parts += [raw.part(list(wide), list(wide.values()), "norm_bias", "float32")] if wide else []
    if norms:
        parts.append(constant.part([f"{path}.running_mean" for path in norms], 0.0, "norm_bias"))
    return parts + [constant.part(paths, value, "norm_bias") for value, paths in variances.items()]
