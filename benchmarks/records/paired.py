"""Differences between networks that are scored on the same test items: each item is compared with itself.

The values of single items are beside the records (`items`). Where seeds differ, the variance between them is added.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from benchmarks.records import items
from benchmarks.records.rows import Row
from benchmarks.records.schema import ITEMS

LEVEL = 0.05
ROUNDING = 1e-12  # of the values themselves: smaller differences are those of floating-point numbers


@dataclass(frozen=True)
class Side:
    """A network, or a mixture of two: `values` (N,) of the test items, means over seeds, multiplied by the metric's scale.

    `between` is the variance of the mean that is due to seeds, in the metric's unit squared. `of` is the hash of the items;
    sides with different hashes can't be compared.
    """

    values: npt.NDArray[np.float64]
    between: float
    of: str


def side(results: Path, row: Row) -> Side | None:
    """The values of a row's items; None if those of a seed were not kept, or if it is not known that all are of one split.

    In a mean over networks that have a single item each, the networks are the items.

    Raises RecordError if values do not match their record.
    """
    metric, hashes = row.quality.metric, [r.provenance.data.get(ITEMS) for r in row.records]
    found = [items.read(results / f"{r.id}.json", metric, r.quality) for r in row.records]
    kept = [values.double().numpy() for values in found if values is not None]
    if len(kept) < len(found) or None in hashes:
        return None
    if _networks_are_items(row):
        values = [
            np.mean([one for r, one in zip(row.records, kept, strict=True) if r.network == network])
            for network in row.networks
        ]
        return Side(metric.scale * np.array(values), 0.0, " ".join(sorted(map(str, set(hashes)))))
    of, *others = {str(one) for one in hashes}
    if others:
        return None
    means = [float(values.mean()) for values in kept]
    between = statistics.variance(means) / len(means) if len(means) > 1 else 0.0
    return Side(metric.scale * np.mean(kept, axis=0), metric.scale**2 * between, of)


def _networks_are_items(row: Row) -> bool:
    """Whether a row is a mean over networks with one item each: pictures."""
    return bool(row.over) and row.quality.scores[0].items == 1


def reader(results: Path) -> Callable[[Row], Side | None]:
    """`side` for the rows of one folder, each read once."""
    known: dict[str, Side | None] = {}

    def read(row: Row) -> Side | None:
        if row.key not in known:
            known[row.key] = side(results, row)
        return known[row.key]

    return read


def mixed(low: Side, high: Side, share: float) -> Side:
    """The point at `share` of the way from one side to another: 0 is `low`, 1 is `high`."""
    values = (1 - share) * low.values + share * high.values
    return Side(values, (1 - share) ** 2 * low.between + share**2 * high.between, low.of)


def difference(a: Side, b: Side) -> tuple[float, float]:
    """(mean of a − b, its standard error), in the metric's unit, over items that both sides share.

    Mixtures of equal networks differ in the last bits: such a difference is zero.
    """
    differences = a.values - b.values
    differences[np.abs(differences) < ROUNDING * np.maximum(np.abs(a.values), np.abs(b.values))] = 0.0
    variance = float(differences.var(ddof=1)) / len(differences) if len(differences) > 1 else 0.0
    return float(differences.mean()), (variance + a.between + b.between) ** 0.5


def critical(freedom: float) -> float:
    """How many standard errors are half of a 95 % interval, by Student's t.

    0 without a degree of freedom: a task with a single item is about that item, whose value is its interval.
    """
    return float(stdtrit(freedom, 1 - LEVEL / 2)) if freedom >= 1 else 0.0


def apart(row: Row) -> float:
    """The degrees of freedom of a difference from another row of the suite whose items are not compared one by one.

    All rows have as many items. Infinite for proportions, whose standard error follows from their mean.
    """
    quality = row.quality
    if _networks_are_items(row):
        return len(row.networks) - 1
    return math.inf if quality.metric.kind == "proportion" else quality.scores[0].items - 1


def significant(sides: Sequence[Side]) -> npt.NDArray[np.bool_]:
    """(S, S): whether the 95 % interval of the paired difference of two sides excludes zero."""
    values = np.stack([one.values for one in sides])
    count, between = values.shape[1], np.array([one.between for one in sides])
    means = values.mean(axis=1)
    centred = values - means[:, None]
    products = centred @ centred.T / max(count - 1, 1)
    own = np.diag(products)
    variance = (own[:, None] + own[None, :] - 2 * products).clip(0) / count + between[:, None] + between[None, :]
    found: npt.NDArray[np.bool_] = (
        np.abs(means[:, None] - means[None, :])
        > critical(count - 1) * np.sqrt(variance) + ROUNDING * np.abs(means).max()
    )
    return found
