"""The content of one suite's page."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.papers.answers import Comparison
from benchmarks.papers.claimed import Judged, Observed
from benchmarks.records import Record
from benchmarks.records.latency import Timed
from benchmarks.records.rows import Row
from benchmarks.report.about import About
from benchmarks.report.answers import Answer
from benchmarks.report.boards import Board
from benchmarks.report.cells import Gap
from benchmarks.report.citation import Citation
from benchmarks.report.envelopes import Envelope
from benchmarks.report.gallery import Gallery
from benchmarks.report.series import Series
from benchmarks.running import freshness
from methods.interface import Metric


@dataclass(frozen=True)
class Contents:
    """Everything that the templates and the script show.

    `metrics` are the suite's metrics; networks are compared by the first. `current` maps each record's id to whether the
    installed code gives it the same fingerprint (None: not known). `timed` holds latencies by the hash of the artefact.
    `first` holds the identities of the lines that are a method's first configuration. `envelopes` are the curves of the
    methods, which `boards` compare. `logs` maps the ids of cells to their logs. `figures` maps a kind ("rate-quality",
    "macs-quality"), a network and a budget to an SVG.
    """

    suite: str
    caution: str
    citation: Citation
    records: Sequence[Record]
    metrics: Sequence[Metric]
    current: Mapping[str, bool | None]
    timed: Mapping[str, Timed]
    lines: Sequence[Series]
    first: set[tuple[str, str, str]]
    envelopes: Sequence[Envelope]
    boards: Sequence[Board]
    answers: Sequence[Answer]
    references: Mapping[str, Row]
    gaps: Sequence[Gap]
    logs: Mapping[str, str]
    comparisons: Sequence[Comparison]
    methods: Sequence[About]
    gallery: Gallery | None
    claims: Sequence[Judged]
    observations: Sequence[Observed]
    figures: Mapping[tuple[str, str, str], bytes]

    @property
    def rows(self) -> list[Row]:
        """All rows in the order of the table: line by line."""
        return [row for line in self.lines for row in line.rows]

    @property
    def metric(self) -> Metric:
        """The metric by which networks are compared."""
        return self.metrics[0]

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(line.network for line in self.lines))

    @property
    def mean(self) -> str:
        """What the mean over the suite's networks is called; "" if there is none."""
        return self.lines[0].rows[0].over

    @property
    def kinds(self) -> list[str]:
        """The kinds of the figures; their file names begin with the kind."""
        return list(dict.fromkeys(kind for kind, _, _ in self.figures))

    @property
    def has_weights(self) -> bool:
        """Whether bits are counted per weight: a task may have no reference network, but pictures."""
        return any(row.bits_per_weight is not None for row in self.rows)

    @property
    def stale(self) -> set[str]:
        """Keys of rows with a record measured by different code."""
        return {row.key for row in self.rows if freshness.is_stale(row, self.current)}

    @functools.cached_property
    def outdone(self) -> dict[str, Row]:
        """By key of a trained row: the best untrained row of the same method and network that is no larger and yet better.

        Rows of changed code are not compared.
        """
        stale, sign = self.stale, 1 if self.metric.more_is_better else -1
        found = {}
        for row in self.rows:
            better = [
                other
                for other in self.rows
                if (other.network, other.first.method) == (row.network, row.first.method)
                and row.first.epochs != 0
                and other.first.epochs == 0
                and not {row.key, other.key} & stale
                and other.file_bytes.mean <= row.file_bytes.mean
                and sign * other.quality.value > sign * row.quality.value
            ]
            if better:
                found[row.key] = max(better, key=lambda other: sign * other.quality.value)
        return found
