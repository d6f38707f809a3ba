"""Records as a table: flat and complete for CSV, and aggregated over seeds for people."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pandas as pd

from benchmarks.evaluation import measure
from benchmarks.record import Record

ROLES = ("weights", "indices", "codebooks", "norm_bias", "header")
# Plain dicts that stay one column of JSON each: their keys differ from method to method.
_AS_JSON = {"config", "point", "notes", "versions", "data"}


def plain_json(value: Any) -> str:
    """Compact JSON with the order of keys kept; raises ValueError for NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def flat(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record, in the order given, every field of the schema; nested names are joined by a point."""
    rows = []
    for record in records:
        row = dict(_flatten(msgspec.to_builtins(record)))
        for role in ROLES:  # a role that no file has is zero bytes, not an absent column
            row.setdefault(f"rate.by_role.{role}", 0)
        rows.append(row)
    return pd.DataFrame(rows)


def _flatten(fields: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in fields.items():
        if name in _AS_JSON:
            yield prefix + name, plain_json(value)
        elif isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def csv(records: Iterable[Record], caution: str = "") -> bytes:
    """UTF-8 CSV of `flat`; floats are written so that they read back as the same double.

    A suite's caution is a last column: rows travel without the page that says it.
    """
    table = flat(records)
    if caution:
        table["caution"] = caution
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()


def snapshot(records: Iterable[Record]) -> str:
    """12 hex digits that change with any field of any record and with nothing else, not with their order either."""
    contents = sorted(msgspec.json.encode(record, order="deterministic") for record in records)
    return hashlib.sha256(b"\n".join(contents)).hexdigest()[:12]


@dataclass(frozen=True)
class Spread:
    """A quantity over seeds: mean, smallest and largest."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One operating point of one method × config × budget × network: its records, one per seed, in the order of seeds.

    `key` is unique within a suite and stable: what a link to this row names.
    """

    key: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """The record of the lowest seed; what the seeds share is read from it."""
        return self.records[0]

    def over_seeds(self, quantity: Callable[[Record], float]) -> Spread:
        values = [quantity(r) for r in self.records]
        return Spread(statistics.fmean(values), min(values), max(values))

    @property
    def file_bytes(self) -> Spread:
        return self.over_seeds(lambda r: r.rate.file_bytes)

    @property
    def ratio(self) -> float:
        """fp32 bytes of the reference / mean bytes of the files; the record's own number where there is one seed."""
        rate = self.first.rate
        return rate.ratio if len(self.records) == 1 else rate.reference_bytes / self.file_bytes.mean

    @property
    def bits_per_weight(self) -> float:
        return self.over_seeds(lambda r: r.rate.bits_per_weight).mean

    @property
    def by_role(self) -> dict[str, float]:
        """Mean bytes by role, in a fixed order, without the roles that take none."""
        names = dict.fromkeys((*ROLES, *(role for r in self.records for role in r.rate.by_role)))
        means = {role: statistics.fmean(r.rate.by_role.get(role, 0) for r in self.records) for role in names}
        return {role: mean for role, mean in means.items() if mean}

    @property
    def quality(self) -> Spread:
        """Shares of correct images, in [0, 1]."""
        return self.over_seeds(lambda r: r.quality.value)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the (mean) share: Wilson's and, of several seeds, at least mean ± 1.96 standard errors.

        All seeds are scored on the same test images, so more seeds do not shrink it: Wilson's is that of the mean
        number of correct images, to the nearest image, out of one test split. It knows nothing of the seeds' variance,
        which the standard error adds.
        """
        first = self.first.quality
        if len(self.records) == 1:
            return first.low, first.high
        low, high = measure.wilson(round(self.over_seeds(lambda r: r.quality.correct).mean), first.total)
        mean, half = self.quality.mean, measure.Z95 * self.standard_error
        return max(0.0, min(low, mean - half)), min(1.0, max(high, mean + half))

    @property
    def standard_error(self) -> float:
        """Of the mean share: binomial over the test images and, with several seeds, their own variance / n."""
        p, n = self.quality.mean, len(self.records)
        seeds = statistics.variance([r.quality.value for r in self.records]) / n if n > 1 else 0.0
        return float((p * (1 - p) / self.first.quality.total + seeds) ** 0.5)

    @property
    def nonzero_share(self) -> float:
        return self.over_seeds(lambda r: r.counted.nonzero / r.counted.elements if r.counted.elements else 0.0).mean

    def timed(self, quantity: Callable[[Record], float | None]) -> float | None:
        """Median over seeds; None where the seeds ran on different devices or thread counts: no mean has a meaning."""
        if len({(r.speed.device, r.speed.threads) for r in self.records}) > 1:
            return None
        times = [time for r in self.records if (time := quantity(r)) is not None]
        return statistics.median(times) if times else None


def _group(record: Record) -> tuple[str, str, str, str, float, int, str]:
    # The label takes part: an index alone would average different points where seeds yield different curves.
    point = json.dumps(record.point, sort_keys=True)
    epochs = -1 if record.epochs is None else record.epochs
    return record.network, record.method, record.config_hash, record.budget, epochs, record.index, point


def aggregate(records: Sequence[Record]) -> list[Row]:
    """Records that differ in their seed alone become one row; rows are sorted by network, method, config and point."""
    rows: list[Row] = []
    taken: dict[str, int] = {}
    for group, members in itertools.groupby(sorted(records, key=lambda r: (_group(r), r.seed, r.id)), key=_group):
        network, method, config_hash, budget, _, index, _ = group
        key = f"{network}/{method}/{config_hash}-{budget}/p{index:02d}"
        taken[key] = taken.get(key, 0) + 1
        rows.append(Row(key if taken[key] == 1 else f"{key}-{taken[key]}", tuple(members)))
    return rows


def references(rows: Iterable[Row]) -> dict[str, Row]:
    """Network -> the row of the uncompressed network: a baseline's file that is no smaller than its fp32 tensors."""
    found: dict[str, Row] = {}
    for row in rows:
        if row.first.faithful == "baseline" and row.ratio <= 1:
            best = found.setdefault(row.first.network, row)
            if row.ratio > best.ratio:
                found[row.first.network] = row
    return found
