"""Decoder modules: the activations of compressed networks. They hold no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import SIZE, checked, no_children, real, several
from benchmarks.networks.random_features import CentredReLU
from methods.interface import ModuleSpec
from methods.ntk.moments import Steps

LARGEST = 1e6
_NUMBER = real(-LARGEST, LARGEST)
MOST = 16  # intervals


class PiecewiseConstant(nn.Module):
    """`levels[k]` where an input lies in k of the nested closed `intervals`, the widest first; any shape."""

    def __init__(self, intervals: tuple[tuple[float, float], ...], levels: tuple[float, ...]) -> None:
        super().__init__()
        if len(levels) != len(intervals) + 1:
            raise ValueError("levels has to have one value more than intervals")
        outer = (-LARGEST, LARGEST)
        for inner in intervals:
            if not outer[0] <= inner[0] <= inner[1] <= outer[1]:
                raise ValueError("intervals has to be nested, the widest interval first")
            outer = inner
        self.intervals, self.levels = intervals, levels

    def inside(self, x: Tensor) -> list[Tensor]:
        """For each interval, which inputs lie in it."""
        return [(x >= low) & (x <= high) for low, high in self.intervals]

    def forward(self, x: Tensor) -> Tensor:
        found = torch.full_like(x, self.levels[0])
        for inside, level in zip(self.inside(x), self.levels[1:], strict=True):
            found.masked_fill_(inside, level)
        return found


def steps_spec(steps: Steps, centre: float, width: int) -> ModuleSpec:
    """(σ(x) − centre) / √width of a piecewise-constant σ."""
    levels = tuple((level - centre) * width**-0.5 for level in steps.levels)
    return ModuleSpec("ntk.piecewise_constant", {"intervals": steps.intervals, "levels": levels})


def relu_spec(centre: float, width: int) -> ModuleSpec:
    """(max(x, 0) − centre) / √width."""
    return ModuleSpec("ntk.centred_relu", {"centre": centre, "width": width})


def _interval(value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("has to be a list of pairs of numbers")
    return _NUMBER(value[0]), _NUMBER(value[1])


def build_steps(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    required = {"intervals": several(_interval, MOST), "levels": several(_NUMBER, MOST + 1)}
    return PiecewiseConstant(**checked(arguments, required))


def build_relu(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return CentredReLU(**checked(arguments, {"centre": _NUMBER, "width": SIZE}))


MODULES = {
    "piecewise_constant": SimpleNamespace(build=build_steps),
    "centred_relu": SimpleNamespace(build=build_relu),
}
