"""Multiply-accumulates of the published networks, counted without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from methods.itpruner import cifar_blocks, published, solve

if TYPE_CHECKING:
    from benchmarks.papers.reported import Reported

__fingerprint__ = False  # no result depends on it
FIFTY = "resnet50"
DEPTHS = {"resnet20": 20, "resnet56": 56}


def count(row: Reported) -> float | None:
    """Multiply-accumulates of one image ("macs"), or how many per cent fewer than dense ("macs_reduction"); else None."""
    if row.network == FIFTY:
        cost, whole = published.resnet50(), published.resnet50(as_printed=False)
        zero, ones = np.zeros(len(cost.full)), np.ones(len(cost.full))
        widths = solve.rounded(cost, solve.shares(cost, row.point["allowed"], zero, "published", 0.0))
        macs = whole(widths / whole.full)
        return {"macs": macs, "macs_reduction": 100 * (1 - macs / whole(ones))}.get(row.metric)
    if row.network in DEPTHS and row.metric == "macs" and "widths" in row.config:
        arguments = {"depth": DEPTHS[row.network], "classes": 10}
        return cifar_blocks.counted("cifar_resnet", arguments, row.config["widths"][0], (3, 32, 32))
    return None
