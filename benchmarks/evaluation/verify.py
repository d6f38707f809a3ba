"""Decoding and scoring existing artefacts again, and comparing them with their records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmarks.errors import RateBenchError
from benchmarks.evaluation.messages import Wanted
from benchmarks.evaluation.metrics import Summed, Sums, agree
from benchmarks.evaluation.scorer import Scorer
from benchmarks.records import Record, described


@dataclass(frozen=True)
class Verdict:
    """The result for one record: "same", "differs" or "no artefact", with details."""

    record: Record
    outcome: Literal["same", "differs", "no artefact"]
    detail: str = ""


def verify(records: Mapping[Path, Record], device: torch.device) -> Iterator[Verdict]:
    """Decode and score the artefacts beside records' files again, each in a new process, and compare with the records.

    Proportions must be exactly equal; means may differ by rounding.
    """
    for place, known in records.items():
        path = place.with_suffix(".rbn")
        if not path.exists():
            yield Verdict(known, "no artefact")
            continue
        with Scorer(known.task, known.network, device) as scorer:
            try:
                found = scorer.score(Wanted(str(path)))
            except RateBenchError as error:
                yield Verdict(known, "differs", str(error))
                continue
        if found.sha256 != known.provenance.artefact_sha256:
            yield Verdict(known, "differs", "the file has another hash")
            continue
        again = {name: found.scores[name] for name in known.metrics if name in found.scores}
        if again.keys() == known.metrics.keys() and all(_same(known, name, sums) for name, sums in again.items()):
            yield Verdict(known, "same")
        else:
            yield Verdict(known, "differs", f"{_totals(again)}, recorded {_totals(known.metrics)}")


def _same(known: Record, name: str, again: Sums) -> bool:
    return agree(described.metric(known.task, name), known.metrics[name], again.items, again.total)


def _totals(scores: Mapping[str, Summed]) -> str:
    return ", ".join(f"{name}: {score.total:.10g} over {score.items:,} items" for name, score in scores.items())
