"""Weights on one symmetric grid per tensor, entropy coded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.codecs import uniform
from methods.families.storage import Arrays
from methods.interface import Part


def step(values: npt.NDArray[Any], bits: int) -> np.float32:
    """The step of a symmetric grid of 2^bits − 1 levels that reaches the largest magnitude."""
    levels = 2 ** (bits - 1) - 1
    return np.float32(max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny)) / levels)


def part(found: Arrays, bits: int) -> Part:
    """A part with each tensor rounded to its own grid (`step`) and entropy coded."""
    steps = {name: step(values, bits) for name, values in found.items()}
    codes = [uniform.quantise(values, steps[name])[0] for name, values in found.items()]
    return uniform.part(list(found), codes, list(steps.values()), "weights")
