"""How much a layer depends on all others: normalised HSIC with a linear kernel, without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from methods.families.structured import Group
from methods.families.structured.shortcuts import is_shortcut
from methods.interface import Run, Task
from methods.itpruner.polynomial import Vector


def gram(features: Tensor) -> Tensor:
    """H X Xᵀ H / ‖·‖_F as a vector (n²,) in fp32 for features X (n, …) of n images; H subtracts the mean over images.

    A layer without variation gives zeros.
    """
    flat = features.detach().flatten(1).float()
    flat = flat - flat.mean(0)
    product = (flat @ flat.T).flatten()
    found: Tensor = product / product.norm().clamp_min(torch.finfo(torch.float32).tiny)
    return found


def nhsic(grams: Sequence[Tensor]) -> Vector:
    """M (L, L): the normalised HSIC of all pairs of layers, in [0, 1], by one product of stacked Gram matrices."""
    stacked = torch.stack(list(grams)).double()
    found: Vector = (stacked @ stacked.T).clamp(0, 1).cpu().numpy()
    return found


def importance(matrix: Vector, beta: float, normalised: bool) -> Vector:
    """α (L,) = exp(−β t); t is the sum of a layer's nHSIC with all others, divided by its sum over layers if `normalised`."""
    dependence = matrix.sum(1) - matrix.diagonal()
    if normalised and dependence.sum() > 0:
        dependence = dependence / dependence.sum()
    found: Vector = np.exp(-beta * dependence)
    return found


def relative(matrix: Vector, beta: float) -> Vector:
    """α (L,) = exp(−β (t − min t) / mean t), with t as in `importance`: 1 for the least dependent layer.

    Neither the number of layers nor the unit of t counts; all α are 1 if no layer depends on another.
    """
    dependence = matrix.sum(1) - matrix.diagonal()
    mean = dependence.mean() if dependence.sum() > 0 else 1.0
    found: Vector = np.exp(-beta * (dependence - dependence.min()) / mean)
    return found


@torch.no_grad()
def measured(network: nn.Module, task: Task, run: Run, images: int, places: Mapping[str, bool]) -> Vector:
    """M (L, L) of what modules of a network give (True) or get (False), by path, for the first `images` calibration images.

    All images pass at once, in eval mode, on the run's device. Raises MethodError if an activation is not finite.
    """
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], outputs: Any = None) -> None:
            if path not in found:
                found[path] = gram(inputs[0] if outputs is None else outputs)

        return hook

    handles = [
        network.get_submodule(path).register_forward_hook(keep(path))
        if gives
        else network.get_submodule(path).register_forward_pre_hook(keep(path))
        for path, gives in places.items()
    ]
    try:
        network.eval().to(run.device)(task.prepare(task.calibration(images).inputs.to(run.device)))
    finally:
        for handle in handles:
            handle.remove()
        network.to("cpu")
    for path, vector in found.items():
        if not torch.isfinite(vector).all():
            msg = f"the activations at {path} are not finite: the network's weights or its images hold NaN or infinite values"
            raise MethodError(msg)
    return nhsic([found[path] for path in places])


def readers(network: nn.Module, groups: Sequence[Group]) -> dict[str, bool]:
    """For `measured`: the first layer that reads each group; it gets the channels after their activation function."""
    return {
        next(m.path for m in group.side("in") if not is_shortcut(network.get_submodule(m.path))): False
        for group in groups
    }
