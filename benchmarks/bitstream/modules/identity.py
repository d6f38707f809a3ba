"""The identity: the output is the input (`torch.nn.Identity`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from benchmarks.bitstream.bounds import checked, no_children
from methods.interface import ModuleSpec

KIND = "Identity"


def spec() -> ModuleSpec:
    """Remove a module by replacing it with the identity."""
    return ModuleSpec(KIND)


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return nn.Identity(**checked(arguments, {}))
