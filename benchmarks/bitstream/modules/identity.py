"""Nothing: what came in goes out (`torch.nn.Identity`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from benchmarks.bitstream.bounds import checked, no_children
from methods.interface import ModuleSpec

KIND = "Identity"


def spec() -> ModuleSpec:
    """Put nothing in place of a module that is removed."""
    return ModuleSpec(KIND)


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return nn.Identity(**checked(arguments, {}))
