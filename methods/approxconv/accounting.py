"""The parameters of a network with approximated kernels, counted without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.bitstream import blueprint
from methods.approxconv.layers import orders, parameters

if TYPE_CHECKING:
    from benchmarks.papers.reported import Reported

__fingerprint__ = False  # no result depends on it


def count(row: Reported) -> float | None:
    """Parameters of ResNet-18 for ImageNet with the orders of the row's point ("params"); None for anything else."""
    if row.metric != "params" or row.network != "resnet18":
        return None
    network = blueprint.skeleton("resnet", {"depth": 18}, {}, {})
    point = [int(order) for order in row.point["orders"].split("-")]
    return parameters(network, orders(network, point))
