"""Modules one after the other: `torch.nn.Sequential`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from benchmarks.bitstream.bounds import checked
from methods.interface import ModuleSpec

KIND = "Sequential"


def spec(*children: ModuleSpec) -> ModuleSpec:
    """Run `children` in order; their paths are 0, 1 … below the module's path."""
    return ModuleSpec(KIND, children=children)


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    checked(arguments, {})
    return nn.Sequential(*children)
