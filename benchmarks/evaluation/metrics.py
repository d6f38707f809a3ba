"""Sums of one value per test item, which add up over shards and processes, and the 95 % interval of their average."""

from __future__ import annotations

import math
from typing import Protocol

import msgspec
import torch
from scipy.special import stdtrit
from torch import Tensor

from methods.interface import Metric

Z95 = 1.959963984540054


class Sums(msgspec.Struct, frozen=True):
    """The number of scored items, the sum of their values, and the sum of squares."""

    items: int
    total: int | float
    squares: int | float

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.items + other.items, self.total + other.total, self.squares + other.squares)

    @property
    def value(self) -> float:
        """The average over the items."""
        return self.total / self.items


class Summed(Protocol):
    """`Sums`, or what a record keeps of them."""

    @property
    def items(self) -> int: ...
    @property
    def total(self) -> int | float: ...
    @property
    def squares(self) -> int | float: ...


NOTHING = Sums(0, 0, 0)
ROUNDING = 1e-6


def sums(values: Tensor) -> Sums:
    """The sums of one value (N,) per item: exact for booleans, in fp64 for real values."""
    if values.dtype == torch.bool:
        right = int(values.sum())
        return Sums(len(values), right, right)
    exact = values.double()
    return Sums(len(values), float(exact.sum()), float(exact.square().sum()))


def agree(metric: Metric, known: Summed, items: int, total: float) -> bool:
    """Whether a total over `items` equals the known one: exactly for a proportion, up to rounding for a mean.

    The order of a sum, the device and fp32 change the last bits of a mean. They are measured against the items' root mean
    square, since positive and negative values may cancel in the total.
    """
    if metric.kind == "proportion":
        return (items, total) == (known.items, known.total)
    return items == known.items and abs(total - known.total) <= ROUNDING * math.sqrt(items * known.squares)


def interval(metric: Metric, found: Sums) -> tuple[float, float]:
    """95 % interval of the average, before `Metric.scale`: Wilson's or Student's.

    A mean over a single item has no spread: its interval is its value.
    """
    if metric.kind == "proportion":
        return wilson(found.total, found.items)
    half = mean_error(found) * float(stdtrit(found.items - 1, 0.975)) if found.items > 1 else 0.0
    return found.value - half, found.value + half


def mean_error(found: Sums) -> float:
    """Standard error of a mean from its sums; 0 for one item."""
    if found.items < 2:
        return 0.0
    variance = (found.squares - found.total**2 / found.items) / (found.items - 1)
    return math.sqrt(max(variance, 0.0) / found.items)


def wilson(correct: float, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, JASA 1927): bounds in [0, 1]."""
    p, z2 = correct / total, Z95 * Z95
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    return max(0.0, centre - half), min(1.0, centre + half)
