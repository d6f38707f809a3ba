"""The parameters in the tables of the official README, counted on the networks without weights."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from torch import nn

from benchmarks.bitstream import blueprint
from methods.tensor_reordering.layers import rates, weights
from methods.tensor_reordering.transform import kept_frequencies

if TYPE_CHECKING:
    from benchmarks.papers.reported import Reported

__fingerprint__ = False  # no result depends on it
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet50": ("resnet", {"depth": 50}),
    "mobilenet_v2": ("mobilenet_v2", {}),
}


def count(row: Reported) -> float | None:
    """Kept coefficients ("coefficients") or all values of a network's state ("params"); None for anything else.

    "params" has each entry of a permutation as one value, and BatchNorm with its running statistics. Rows without a point are
    about the uncompressed network.
    """
    if row.metric not in ("params", "coefficients") or row.network not in NETWORKS:
        return None
    network = _dense(row.network)
    values = blueprint.values(network)
    if not row.point:
        return values
    found = weights(network, row.point["groups"], row.config.get("skip", ()))
    groups: int = row.point["groups"]
    columns = {path: weight.numel() // groups for path, weight in found.items()}
    ratios = rates(found, row.point["rate"], "progressive")
    coefficients = sum(groups * kept_frequencies(columns[path], ratios[path]) for path in found)
    if row.metric == "coefficients":
        return coefficients
    return values - sum(weight.numel() for weight in found.values()) + coefficients + sum(columns.values())


@functools.cache
def _dense(name: str) -> nn.Module:
    architecture, arguments = NETWORKS[name]
    return blueprint.skeleton(architecture, arguments, {}, {})
