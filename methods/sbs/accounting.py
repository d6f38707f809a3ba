"""Bit operations of uncompressed networks, and of networks with one number of bits, counted without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from benchmarks import tasks
from benchmarks.bitstream import blueprint
from benchmarks.evaluation import bops, measure
from methods.families import quantised_activations as layers
from methods.families import storage
from methods.families.structured import cost

if TYPE_CHECKING:
    from benchmarks.papers.reported import Reported

__fingerprint__ = False  # no result depends on it
SIZES = {"cifar100": 32, "imagenet": 224}  # pixels of a side


def count(row: Reported) -> float | None:
    """Bit operations for one image ("bops"): of weights and inputs of `bits`, but for the ends, or of 32 bits; else None."""
    if row.metric != "bops" or row.task not in SIZES:
        return None
    task = tasks.load(row.task, row.network)
    network = blueprint.skeleton(task.architecture, task.arguments, {}, {}).eval()
    example = torch.empty(1, 3, SIZES[row.task], SIZES[row.task], device="meta")
    if "bits" not in row.point:
        return float(measure.macs(network, example) * bops.FLOAT**2)
    bits = layers.bits_of(list(storage.layers(network)), row.point["bits"])
    found = cost.measure(network, [], example).layers.items()
    return float(sum(layer.macs({}) * bits[path][0] * (bits[path][1] or bops.PICTURE) for path, layer in found))
