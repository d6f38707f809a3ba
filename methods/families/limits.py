"""Types of settings with their bounds: a configuration that breaks them is refused before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, TypeAlias

from msgspec import Meta

__fingerprint__ = False  # refuses settings, changes no number

Count: TypeAlias = Annotated[int, Meta(ge=1)]
Images: TypeAlias = Annotated[int, Meta(ge=0)]  # how many calibration images; 0 for none
Share: TypeAlias = Annotated[float, Meta(gt=0, lt=1)]
ShareOrAll: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Positive: TypeAlias = Annotated[float, Meta(gt=0, le=1e6)]
NotNegative: TypeAlias = Annotated[float, Meta(ge=0, le=1e6)]
Ratio: TypeAlias = Annotated[float, Meta(gt=1, le=1e6)]
Bits: TypeAlias = Annotated[int, Meta(ge=2, le=16)]


def check_order(name: str, grid: Sequence[float], rising: bool = True, empty: bool = False) -> None:
    """Raise ValueError unless a grid of operating points runs from the largest file to the smallest, each point once.

    `rising` says whether larger values make smaller files; `empty` whether there may be no point.
    """
    if not (grid or empty) or list(grid) != sorted(set(grid), reverse=not rising) or not all(map(math.isfinite, grid)):
        direction = "rise" if rising else "fall"
        msg = f"{name} has to {direction}, from the largest file to the smallest, with at least one value"
        raise ValueError(msg)
