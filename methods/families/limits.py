"""Types with bounds: an invalid configuration is an error before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, TypeAlias

from msgspec import Meta

__fingerprint__ = False  # checks settings, changes no number

Count: TypeAlias = Annotated[int, Meta(ge=1, le=10**6)]
Images: TypeAlias = Annotated[int, Meta(ge=0, le=10**7)]  # number of calibration images; 0 for none
Share: TypeAlias = Annotated[float, Meta(gt=0, lt=1)]
ShareOrAll: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Positive: TypeAlias = Annotated[float, Meta(gt=0, le=1e6)]
NotNegative: TypeAlias = Annotated[float, Meta(ge=0, le=1e6)]
Ratio: TypeAlias = Annotated[float, Meta(gt=1, le=1e6)]
Bits: TypeAlias = Annotated[int, Meta(ge=2, le=16)]


def check_order(name: str, grid: Sequence[float], rising: bool = True, empty: bool = False) -> None:
    """Raise ValueError unless a grid of operating points is strictly ordered from the largest file to the smallest.

    `rising`: larger values give smaller files. `empty`: the grid may be empty.
    """
    if not (grid or empty) or list(grid) != sorted(set(grid), reverse=not rising) or not all(map(math.isfinite, grid)):
        direction = "rise" if rising else "fall"
        msg = f"{name} has to {direction}, from the largest file to the smallest, with at least one value"
        raise ValueError(msg)
