"""Rows: each groups the records that differ only in their seed."""

from __future__ import annotations

import functools
import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.records import comparable, described
from benchmarks.records.quality import Quality, Spread, spread
from benchmarks.records.schema import ROLES, Record


@dataclass(frozen=True)
class Row:
    """One operating point of one method × config × budget × network: its records, one per seed, in the order of seeds.

    `key` is stable and unique within a suite; links to the row contain it. With `over`, the row is a mean over networks, which
    that names, and has the records of all of them; what it says of seeds then holds for networks, too.
    """

    key: str
    records: tuple[Record, ...]
    over: str = ""

    @property
    def first(self) -> Record:
        """The record of the lowest seed; values that all seeds share are read from it."""
        return self.records[0]

    @property
    def network(self) -> str:
        """The network, or the name of those over which the row is a mean."""
        return self.over or self.first.network

    @property
    def networks(self) -> list[str]:
        """The network, or those over which the row is a mean."""
        return list(dict.fromkeys(r.network for r in self.records))

    def over_seeds(self, quantity: Callable[[Record], float]) -> Spread:
        return spread(map(quantity, self.records))

    @property
    def file_bytes(self) -> Spread:
        return self.over_seeds(lambda r: r.rate.file_bytes)

    @property
    def ratio(self) -> float:
        """Uncompressed bytes / mean bytes of the files; with a single seed, the record's own number."""
        rate = self.first.rate
        return rate.ratio if len(self.records) == 1 else rate.uncompressed_bytes / self.file_bytes.mean

    @property
    def bits_per_weight(self) -> float | None:
        """The mean over seeds; None if there is no reference network whose values could be counted."""
        found = [bits for r in self.records if (bits := r.rate.bits_per_weight) is not None]
        return statistics.fmean(found) if found else None

    @property
    def by_role(self) -> dict[str, float]:
        """Mean bytes by role, in a fixed order, without the roles that take no bytes."""
        names = dict.fromkeys((*ROLES, *(role for r in self.records for role in r.rate.by_role)))
        means = {role: statistics.fmean(r.rate.by_role.get(role, 0) for r in self.records) for role in names}
        return {role: mean for role, mean in means.items() if mean}

    def score(self, name: str) -> Quality | None:
        """A metric of the row; None if the record of any seed lacks it."""
        found = [r.metrics[name] for r in self.records if name in r.metrics]
        complete = len(found) == len(self.records)
        return Quality(described.metric(self.first.task, name), tuple(found)) if complete else None

    @functools.cached_property
    def quality(self) -> Quality:
        """The metric that networks are compared by."""
        return Quality(described.metric(self.first.task, self.first.metric), tuple(r.quality for r in self.records))

    @property
    def macs(self) -> float:
        """Multiply-accumulates of the decoded network for one item, the mean over seeds."""
        return self.over_seeds(lambda r: r.counted.macs).mean

    @property
    def nonzero_share(self) -> float:
        return self.over_seeds(lambda r: r.counted.nonzero / r.counted.elements if r.counted.elements else 0.0).mean


def _group(record: Record) -> tuple[str, str, str, str, int, str]:
    # The label is needed: if seeds yield different curves, the same index may refer to different points.
    point = json.dumps(record.point, sort_keys=True)
    return record.network, record.method, record.config_hash, record.budget, record.index, point


def aggregate(records: Sequence[Record]) -> list[Row]:
    """Records that differ only in their seed become one row; rows are sorted by network, method, config and point.

    Raises RecordError if records were measured on different things, such as other test items or another number of epochs.
    """
    comparable.check(records)
    rows: list[Row] = []
    taken: dict[str, int] = {}
    for group, members in itertools.groupby(sorted(records, key=lambda r: (_group(r), r.seed, r.id)), key=_group):
        network, method, config_hash, budget, index, _ = group
        key = f"{network}/{method}/{config_hash}-{budget}/p{index:02d}"
        taken[key] = taken.get(key, 0) + 1
        rows.append(Row(key if taken[key] == 1 else f"{key}-{taken[key]}", tuple(members)))
    return rows


def means(rows: Iterable[Row], networks: Sequence[str], name: str) -> Iterator[Row]:
    """A row of the mean over `networks`, called `name`, for each operating point that all of them have."""
    found: dict[tuple[str, str, str, str], dict[str, Row]] = {}
    for row in rows:
        r = row.first
        point = json.dumps([r.index, r.point], sort_keys=True)
        found.setdefault((r.method, r.config_hash, r.budget, point), {})[r.network] = row
    for own in found.values():
        if networks and own.keys() >= set(networks):
            one = own[networks[0]]
            records = tuple(record for network in networks for record in own[network].records)
            yield Row(f"{name}{one.key.removeprefix(one.first.network)}", records, name)


def references(rows: Iterable[Row]) -> dict[str, Row]:
    """Network -> the row of the uncompressed network: a baseline's file that is not smaller than the fp32 tensors.

    A task without a reference network has none.
    """
    found: dict[str, Row] = {}
    for row in rows:
        if row.first.fidelity == "baseline" and row.ratio <= 1 and row.bits_per_weight is not None:
            best = found.setdefault(row.network, row)
            if row.ratio > best.ratio:
                found[row.network] = row
    return found
