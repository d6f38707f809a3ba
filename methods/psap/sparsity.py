"""Weight sparsity ratios: the share of each layer's weights near zero, which sets the share of its filters to remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Threshold: TypeAlias = Literal["global_quantile", "relative", "absolute"]


def sparsity_ratios(
    weights: Mapping[str, Tensor], threshold: Threshold, share: float, level: float, normalised: bool = False
) -> dict[str, float]:
    """s_l: the share of a layer's weights with a magnitude below its threshold, by layer.

    "global_quantile": one threshold, the `share`-quantile of all magnitudes, so that the mean of s over weights is
    `share`; "relative": `level` · the layer's mean magnitude; "absolute": `level`. `normalised` divides each layer by its
    root mean square first.
    """
    magnitudes = {name: w.detach().abs().flatten().float() for name, w in weights.items()}
    if normalised:
        magnitudes = {name: m / m.square().mean().sqrt().clamp_min(1e-30) for name, m in magnitudes.items()}
    if threshold == "global_quantile":
        every = torch.cat(list(magnitudes.values()))
        count = round(share * len(every))
        limit = every.kthvalue(max(1, count)).values
        # Weights equal to the limit (mostly zeros) are counted with a factor, equal for all layers, so that the mean is exact.
        part = (count - int((every < limit).sum())) / int((every == limit).sum())
        return {n: float((m < limit).sum() + part * (m == limit).sum()) / len(m) for n, m in magnitudes.items()}
    limits = {name: level * (float(m.mean()) if threshold == "relative" else 1.0) for name, m in magnitudes.items()}
    return {name: float((m < limits[name]).float().mean()) for name, m in magnitudes.items()}


def scheduled(target: float, progress: float, schedule: Literal["constant", "cubic"], ramp: float) -> float:
    """The share removed at `progress` (0 to 1) of the training: all of it at once, or a fraction 1 − (1 − progress/ramp)³."""
    if schedule == "constant" or progress >= ramp:
        return target
    return float(target * (1 - (1 - progress / ramp) ** 3))
