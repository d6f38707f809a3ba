"""Layers and the codebooks that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from methods.families.codebooks.vectors import Layer


@dataclass(frozen=True)
class Book:
    """Layers that share codebooks: (M, K, width) and the codes (n, M) of all their vectors, in order."""

    layers: Sequence[Layer]
    codebooks: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int32]
    kind: Literal["additive", "product"] = "additive"
