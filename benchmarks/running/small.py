"""Small cells that represent kinds of recorded cells, and what tasks give, compared under two versions of the code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

import methods
from benchmarks import records, storage, tasks
from benchmarks.configuration import plain
from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import json_hash
from benchmarks.records import Record
from benchmarks.running import task_values
from benchmarks.running.cell import Cell, changes
from methods.interface import Budget, BudgetName

TASK = "digits"  # embedded, and small
RATEBENCH = (sys.executable, "-m", "benchmarks.cli")
SECONDS = "seconds"  # the note in which a method reports a duration
TRAINED = 2_000  # training items of a point at the `short` budget


@dataclass(frozen=True)
class Kind:
    """Recorded cells that run the same code: a method with one configuration at one budget, on one kind of input."""

    method: str
    changes: str  # JSON of the settings that differ from the defaults
    budget: BudgetName
    task: str
    network: str

    def cell(self, task: str, network: str) -> Cell:
        """The cell of this kind on a network. Raises RateBenchError if the configuration is no longer valid."""
        method = methods.get(self.method)
        try:
            config = msgspec.convert({**plain(method.Config()), **json.loads(self.changes)}, method.Config)
        except msgspec.ValidationError as error:
            msg = f"{self.method} has records with the configuration {self.changes}, which is no longer valid: {error}"
            raise RateBenchError(msg) from error
        return Cell(f"accept-{task}", task, network, self.method, plain(config), _budget(self.budget, task), 0)


@dataclass(frozen=True)
class Evidence:
    """A small cell that was run under both versions: the number of its artefacts, and a hash of their recorded values.

    Or a task's network, as "task/network": the number of the values that the task gives, and a hash of them.
    """

    cell: str
    points: int
    sha256: str


@dataclass
class Version:
    """A version of the code in the folder `tree`. Its cells run in the folder `place`."""

    name: str
    tree: Path
    place: Path
    said: list[str] = field(default_factory=list)  # the last line of each run that failed

    def run(self, cells: Sequence[Cell], jobs: int) -> None:
        """Run cells that share their task, network and budget."""
        suite, budget, place = cells[0].suite, cells[0].budget, self._place(cells[0])
        storage.write(place / "params.yaml", yaml.safe_dump(_parameters(cells)).encode())
        if (pins := self.tree / "data.dvc").exists():
            shutil.copy(pins, place)
        command = [*RATEBENCH, "run", suite, "--all-configs", "--budget", budget.name, "--jobs", str(jobs)]
        done = subprocess.run(command, cwd=place, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.said += done.stderr.strip().splitlines()[-1:]

    def _place(self, cell: Cell) -> Path:
        return self.place / cell.task / cell.network / cell.budget.name

    def folder(self, cell: Cell) -> Path:
        """The folder with the records of a cell."""
        return self._place(cell) / "results" / cell.id

    def results(self, cell: Cell) -> dict[str, Any]:
        """For each point, the part of its record that depends on the code; empty if the cell is not complete."""
        ended = self.folder(cell) / "cell.json"
        if not ended.exists() or records.read_cell(ended).status != "complete":
            return {}
        known = [records.read(path) for path in records.points(self.folder(cell))]
        return {f"p{r.index:02d}": _results(r) for r in known}

    def given(self, task: str, network: str) -> dict[str, str]:
        """Hashes of what a task gives for a network. Raises RateBenchError with the last line of what the code says."""
        command = [sys.executable, "-P", task_values.__file__, task, network]
        done = subprocess.run(
            command, cwd=self.tree, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["it stopped"])[-1]
            msg = f"{task}/{network} can't be compared with the code {self.name}: {said}; nothing was accepted"
            raise RateBenchError(msg)
        found: dict[str, str] = json.loads(done.stdout)
        return found

    @property
    def _environment(self) -> dict[str, str]:
        places = os.pathsep.join((str(self.tree), *filter(None, [os.environ.get("PYTHONPATH")])))
        return os.environ | {"PYTHONPATH": places}

    def reason(self, cell: Cell) -> str | None:
        """Why a cell is not complete, if that is known."""
        ended = self.folder(cell) / "cell.json"
        failed = records.read_cell(ended).error if ended.exists() else None
        return failed or (self.said[-1] if self.said else None)


def _results(known: Record) -> dict[str, Any]:
    """The artefact's hash, scores and intervals, sizes, counts, labels and notes, but no times."""
    found: dict[str, Any] = msgspec.to_builtins(known)
    notes = {name: value for name, value in known.notes.items() if name != SECONDS}
    kept = {name: found[name] for name in ("index", "point", "rate", "counted", "metrics", "selection")}
    return {**kept, "notes": notes, "sha256": known.provenance.artefact_sha256}


def compare(before: Version, now: Version, cells: Sequence[Cell]) -> Iterator[Evidence]:
    """Compare what cells wrote under both versions; raises RateBenchError that names the first cells that differ."""
    different: list[str] = []
    for cell in cells:
        one, two = before.results(cell), now.results(cell)
        if not one or not two:
            version = now if one else before
            reason = version.reason(cell) or "it can't be run"
            msg = f"{cell.id} is not complete with the code {version.name}: {reason}; nothing was accepted"
            raise RateBenchError(msg)
        different += [f"{cell.id}/{name}" for name in sorted(one | two) if one.get(name) != two.get(name)]
        yield Evidence(cell.id, len(two), json_hash(two))
    _refuse(different, "records of these methods")


def compare_tasks(before: Version, now: Version, networks: Iterable[tuple[str, str]]) -> Iterator[Evidence]:
    """Compare what tasks give for (task, network) under both versions; raises RateBenchError that names what differs."""
    different: list[str] = []
    for task, network in networks:
        one, two = before.given(task, network), now.given(task, network)
        different += [f"{task}/{network}, {name}" for name in sorted(one | two) if one.get(name) != two.get(name)]
        yield Evidence(f"{task}/{network}", len(two), json_hash(two))
    _refuse(different, "records of these tasks")


def _refuse(different: Sequence[str], stale: str) -> None:
    if different:
        named = ", ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")
        msg = f"the change gives other results: {named}; nothing was accepted, the {stale} are stale"
        raise RateBenchError(msg)


def _budget(name: BudgetName, task: str) -> Budget:
    """The budget of a small cell. The `paper` schedule belongs to the method and can't be made shorter."""
    epochs = {"post-training": 0.0, "short": min(1.0, TRAINED / max(1, tasks.get(task).ITEMS[0])), "paper": None}
    return Budget(name, epochs[name])


def _parameters(cells: Sequence[Cell]) -> dict[str, Any]:
    """The content of a params.yaml with exactly these cells."""
    configs: dict[str, list[Any]] = {}
    for cell in cells:
        known = configs.setdefault(cell.method, [])
        settings = changes(cell.method, cell.config)
        known += [] if settings in known else [settings]
    suite = {
        "task": cells[0].task,
        "networks": [cells[0].network],
        "methods": sorted(configs),
        "seeds": [0],
        "configs": {cells[0].budget.name: configs},
    }
    budgets = {"post-training": {"epochs": 0}, "paper": {"epochs": None}, "short": {"epochs": 1}}
    spent = cells[0].budget
    budgets[spent.name] = {"epochs": spent.epochs}
    return {cells[0].suite: suite, "budgets": budgets, "configs": {}}
