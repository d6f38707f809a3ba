"""The end of an operating point: BatchNorm is corrected, weights are rounded, and the network is described."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

from benchmarks.training import control_variate
from benchmarks.training.control_variate import Control
from methods.families import grid, rounding, storage
from methods.interface import Part, Run, Task

Storage: TypeAlias = Literal["uniform", "rdoq"]


def corrected_and_rounded(
    network: nn.Module, task: Task, run: Run, how: Storage, bits: int, items: int, known: Control
) -> Part:
    """The part with all weights of a network, in steps of one size per tensor; also changes the network in place.

    BatchNorm is corrected by `items` calibration images with `known` as the control variate; none if `items` is 0. "uniform"
    rounds to a grid of 2^bits − 1 levels, "rdoq" as the baseline of that name, after which BatchNorm is corrected again.
    """
    control_variate.correct(network, task, items, known)
    found = storage.matrices(storage.tensors(network))
    if how == "uniform":
        return grid.part(found, bits)
    part = rounding.part(network, task, items, found, bits, run.device)
    control_variate.correct(network, task, items, known)
    return part
