"""Artefacts at hand, decoded and scored again: do they still give what their records say?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import execution
from benchmarks.errors import RateBenchError
from benchmarks.record import Record
from benchmarks.scorer import Scorer, Wanted


@dataclass(frozen=True)
class Verdict:
    """What verifying one record gave: "same", "differs" or "no artefact", with the detail."""

    record: Record
    outcome: Literal["same", "differs", "no artefact"]
    detail: str = ""


def verify(records: Sequence[Record], results: Path) -> Iterator[Verdict]:
    """Decode and score the artefacts again, each in a fresh process of its own, and compare with their records."""
    for known in records:
        path = results / f"{known.id}.rbn"
        if not path.exists():
            yield Verdict(known, "no artefact")
            continue
        with Scorer(known.task, known.network, execution.device()) as scorer:
            try:
                found = scorer.score(Wanted(str(path)))
            except RateBenchError as error:
                yield Verdict(known, "differs", str(error))
                continue
        if found.sha256 != known.provenance.artefact_sha256:
            yield Verdict(known, "differs", "the file has another hash")
        elif found.correct != known.quality.correct:
            yield Verdict(known, "differs", f"{found.correct} correct, recorded {known.quality.correct}")
        else:
            yield Verdict(known, "same")
