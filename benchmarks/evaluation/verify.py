"""Decoding and scoring existing artefacts again, and comparing them with their records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmarks.errors import RateBenchError
from benchmarks.evaluation.messages import Wanted
from benchmarks.evaluation.scorer import Scorer
from benchmarks.records import Record


@dataclass(frozen=True)
class Verdict:
    """The result for one record: "same", "differs" or "no artefact", with details."""

    record: Record
    outcome: Literal["same", "differs", "no artefact"]
    detail: str = ""


def verify(records: Sequence[Record], results: Path, device: torch.device) -> Iterator[Verdict]:
    """Decode and score the artefacts again, each in a new process, and compare with their records."""
    for known in records:
        path = results / f"{known.id}.rbn"
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
        recorded = {name: (score.items, score.total) for name, score in known.metrics.items()}
        again = {
            name: (found.scores[name].items, found.scores[name].total) for name in recorded if name in found.scores
        }
        if again != recorded:
            yield Verdict(known, "differs", f"{_totals(again)}, recorded {_totals(recorded)}")
        else:
            yield Verdict(known, "same")


def _totals(scores: dict[str, tuple[int, int | float]]) -> str:
    return ", ".join(f"{name}: {total:g} over {items:,} items" for name, (items, total) in scores.items())
