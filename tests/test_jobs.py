"""Several cells: the processes that run them at the same time, and those that score them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
import test_runner
import torch
from test_runner import InProcess, Laboratory, in_worker

from benchmarks.running import schedule
from benchmarks.running.cell import Cell

laboratory = test_runner.laboratory


def test_cells_of_a_job_share_the_process_that_scores_until_one_fails(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process for each cell costs seconds; one that stays after a failure or for another network serves wrong cells."""
    events: list[str] = []
    asked: list[int] = []

    class Counted(InProcess):
        def __init__(self, *place: Any) -> None:
            super().__init__(*place)
            self.name = f"{place[1]} {sum('start' in event for event in events)}"
            events.append(f"start {self.name}")
            assert torch.get_num_threads() == 1, "the scorer's threads are those of this process, not of its share"

        def end(self) -> None:
            events.append(f"end {self.name}")

    def executed(cell: Cell, *others: Any) -> tuple[str, list[str]]:
        events.append(f"cell {cell.seed} {others[-1].name}")
        return ("failed" if cell.seed == 1 else "complete"), []

    monkeypatch.setattr(schedule, "Scorer", Counted)
    monkeypatch.setattr(schedule, "_executed", executed)
    monkeypatch.setattr(schedule, "_kept", {})
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked[-1] if asked else 2)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    budget = laboratory.cells()[0].budget
    for seed, network in enumerate(("a", "a", "a", "b")):
        schedule._in_worker(Cell("digits", "digits", network, "tiny", {}, budget, seed), laboratory.results, 1, False)
    assert events == [
        *("start a 0", "cell 0 a 0", "cell 1 a 0", "end a 0"),
        *("start a 1", "cell 2 a 1"),
        *("end a 1", "start b 2", "cell 3 b 2"),
    ]


def test_two_jobs_write_the_bytes_that_one_writes(laboratory: Laboratory, tmp_path: Path) -> None:
    laboratory.configure({"points": 1, "epochs": 1}, {"points": 1})
    torch.set_num_threads(1)
    laboratory.run(tmp_path / "one")
    laboratory.patch.setattr(schedule, "_in_worker", in_worker)
    ended = schedule.run(laboratory.cells(), laboratory.results, print, jobs=2)
    assert sorted(outcome for _, outcome in ended) == ["complete", "complete"]
    artefacts = laboratory.files("p*.rbn")
    assert len(set(artefacts.values())) == 2 and artefacts == laboratory.files("p*.rbn", tmp_path / "one")


def test_cells_of_a_network_share_the_process_that_scores_until_one_fails(laboratory: Laboratory) -> None:
    started: list[tuple[str, str, torch.device]] = []

    class Counted(InProcess):
        def __enter__(self) -> Self:
            started.append(self.place)
            return self

    laboratory.patch.setattr(schedule, "Scorer", Counted)
    laboratory.configure({"points": 1}, {"points": 2}, {"points": 3}, {"points": 4})
    laboratory.patch.setenv("TINY", "fail")  # the curve of three points
    outcomes, _ = laboratory.run()
    assert outcomes == ["complete", "complete", "failed", "complete"]
    assert len(started) == 2
