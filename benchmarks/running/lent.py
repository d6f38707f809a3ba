"""The `Run` that a method gets: generators, checkpoints with a fingerprint, and a clock."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks import seeds, storage
from benchmarks.errors import DamagedFile, StaleCheckpoint
from benchmarks.fingerprint import json_hash
from benchmarks.running.cell import Cell
from benchmarks.training import processes
from methods.interface import Budget

Say = Callable[[str], None]
START_OVER = "run with --fresh to start this cell over"


class Clock:
    """Seconds spent on the point in progress. Killed processes count up to their last entry in `file`."""

    def __init__(self, file: Path) -> None:
        self._file, self._before, self._start = file, 0.0, time.perf_counter()
        if file.exists():
            self._before = _noted(file)

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def note(self) -> None:
        storage.write(self._file, storage.seal(f"{self.seconds():.3f}".encode()))

    def pass_over(self) -> None:
        """Restart the clock: the last point had a valid record."""
        self._start = time.perf_counter()

    def restart(self) -> None:
        self._file.unlink(missing_ok=True)
        self._before, self._start = 0.0, time.perf_counter()


def _noted(file: Path) -> float:
    """The seconds in a file of `Clock`; raises DamagedFile if it is not exactly what was written."""
    noted = storage.unseal(storage.read(file))
    if noted is None:
        msg = f"{file} does not hold the seconds that this cell has taken: {START_OVER}"
        raise DamagedFile(msg)
    return float(noted)


class CellRun:
    """Implements `methods.interface.Run` for one cell, with checkpoints in the folder `work`.

    `required` names the reference of the task, if no hash pins it: a checkpoint of another reference is not used.
    """

    def __init__(
        self, cell: Cell, work: Path, device: torch.device, say: Say, required: Mapping[str, str] | None = None
    ) -> None:
        self.clock = Clock(work / f"seconds-{cell.fingerprint()}")
        self.seed: int = cell.seed
        self.budget: Budget = cell.budget
        self.device = device
        self._ingredients = cell.ingredients() | ({"the reference": json_hash(required)} if required else {})
        self._work = work
        self._say = say

    def generator(self, *names: str | int) -> torch.Generator:
        return seeds.generator(self.seed, *names)

    def progress(self, message: str) -> None:
        self._say(message)

    def _file(self, stage: str) -> Path:
        return self._work / f"{hashlib.sha256(stage.encode()).hexdigest()[:16]}.pt"

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        if processes.rank() == 0:
            saved = {"stage": stage, "ingredients": self._ingredients, "state": dict(state)}
            storage.save_tensors(self._file(stage), saved)
            self.clock.note()
        processes.wait()

    def restore(self, stage: str) -> dict[str, Any] | None:
        if not processes.broadcast(self._file(stage).exists):
            return None
        saved = storage.load_own(self._file(stage), START_OVER)
        if saved.get("stage") != stage:
            msg = f"{self._file(stage)} is not a checkpoint of {stage!r}: {START_OVER}"
            raise DamagedFile(msg)
        changed = [name for name, value in self._ingredients.items() if saved["ingredients"].get(name) != value]
        if changed:
            msg = (
                f"the checkpoint of {stage!r} was saved before a change to {' and '.join(changed)}, so it can't be used: "
                f"{START_OVER}"
            )
            raise StaleCheckpoint(msg)
        state: dict[str, Any] = saved["state"]
        return state
