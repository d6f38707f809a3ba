"""The choice of a learning rate: each of a small grid is tried at one operating point and judged on the validation split.

One method is tried for its family, with its first configuration and only the middle of each of its grids; a point that
usually starts from the one before is made in one step. Its file is decoded and scored on the task's validation items. The rate
with the best score is chosen, the lowest one of equals. If it is at an end of the grid, one rate beyond this end is tried, too.
Test items play no part. Methods that train from random weights keep
their own rates.

The validation items may be among those on which a public reference was trained: this favours rates that leave a network as it
is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock

import methods
from benchmarks import bitstream, storage, tasks
from benchmarks.errors import Diverged, MethodError
from benchmarks.evaluation.scoring import total_score
from benchmarks.running import environment, plan
from benchmarks.running.cell import Cell
from benchmarks.running.lent import CellRun, Say
from benchmarks.running.state import WORK
from methods.interface import Budget

GRID = (0.0003, 0.001, 0.003, 0.01, 0.03)
BEYOND = {GRID[0]: 0.0001, GRID[-1]: 0.1}  # by the end of the grid
FILE = "learning_rates.json"  # in the folder of a suite's network
__fingerprint__ = False  # what it chooses is in params.yaml


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `method` was tried for, on behalf of `methods`: scores on the validation split by rate, None if it diverged."""

    method: str
    methods: list[str]
    budget: str
    epochs: float
    config: dict[str, Any]
    fingerprint: str
    scores: dict[str, float | None]
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    cpu: str

    @property
    def chosen(self) -> float:
        """The rate with the best score, the lowest one of equals. Raises MethodError if training diverged at every rate."""
        finite = {float(rate): score for rate, score in self.scores.items() if score is not None}
        if not finite:
            msg = f"{self.method} diverged at every learning rate of {', '.join(self.scores)}"
            raise MethodError(msg)
        return min(finite, key=lambda rate: (-finite[rate], rate))


def _name(rate: float) -> str:
    return f"{rate:g}"


def cell(suite: str, keys: Sequence[str], network: str, budget: str) -> Cell:
    """What is run for the family `keys`: the first configuration of the first one, at one point.

    Raises MethodError if the budget has no number of epochs, or if one of the methods does not train at it on the network.
    """
    (first, *_), *others = ([*plan.cells(suite, [key], [network], budget)] for key in keys)
    if not first.budget.epochs:
        msg = f"there is no learning rate to choose at the budget {budget}: it has no training, or each paper's own schedule"
        raise MethodError(msg)
    for own in (first, *(other[0] for other in others)):
        if reason := own.unsupported():
            msg = f"{own.method} on {network}: {reason}"
            raise MethodError(msg)
    config = {name: _middle(value) for name, value in first.config.items()}
    return replace(first, config=config, budget=Budget(first.budget.name, first.budget.epochs))


def tried(cell: Cell, keys: Sequence[str], results: Path, say: Say) -> Trial:
    """Try each rate of GRID for the family `keys` and note its score in FILE; rates that are noted already are not tried again.

    A method is in one trial of a budget only: the last one. Families can be tried by several processes at the same time.
    """
    file = results / cell.suite / cell.network / FILE
    commit, dirty = environment.commit()
    trial = Trial(
        cell.method,
        list(keys),
        cell.budget.name,
        float(cell.budget.epochs or 0),
        cell.config,
        cell.fingerprint(),
        {},
        commit,
        dirty,
        environment.versions(),
        environment.cpu(),
    )
    for known in read(file):
        if (known.fingerprint, known.method, known.methods) == (trial.fingerprint, trial.method, trial.methods):
            trial = known
    while rate := next((one for one in wanted(trial) if _name(one) not in trial.scores), None):
        score = _score(replace(cell, budget=replace(cell.budget, learning_rate=rate)), results, say)
        say(f"{cell.network}, {cell.method}, learning rate {rate:g}: {'diverged' if score is None else f'{score:.4f}'}")
        trial = msgspec.structs.replace(trial, scores={**trial.scores, _name(rate): score})
        _note(trial, file, results / WORK / f"{cell.suite}--{cell.network}--{FILE}.lock")
    if trial.chosen in BEYOND.values():
        say(f"{cell.network}, {cell.method}: {trial.chosen:g} is the last rate that is tried")
    return trial


def wanted(trial: Trial) -> tuple[float, ...]:
    """The rates that a trial needs, as far as its scores tell: GRID, and one beyond the end at which the best of these is."""
    first = {_name(rate): trial.scores[_name(rate)] for rate in GRID if _name(rate) in trial.scores}
    if len(first) < len(GRID) or not any(score is not None for score in first.values()):
        return GRID
    best = msgspec.structs.replace(trial, scores=first).chosen
    return (*GRID, *filter(None, [BEYOND.get(best)]))


def _note(trial: Trial, file: Path, lock: Path) -> None:
    """Write the trial among the others in the file, which another process may have changed."""
    with FileLock(lock):
        others = [_without(known, trial.methods) if known.budget == trial.budget else known for known in read(file)]
        entries = sorted((one for one in [*others, trial] if one.methods), key=lambda one: (one.budget, one.methods))
        storage.write(file, msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n")


def _without(trial: Trial, keys: Sequence[str]) -> Trial:
    return msgspec.structs.replace(trial, methods=[key for key in trial.methods if key not in keys])


def _middle(value: Any) -> Any:
    """The middle of a grid, as a grid of one value; anything else as it is."""
    return [value[len(value) // 2]] if isinstance(value, list) and len(value) > 2 else value


def _score(cell: Cell, results: Path, say: Say) -> float | None:
    """The mean score on the validation split of the decoded file of a cell's only point; None if training diverged."""
    task, folder = tasks.load(cell.task, cell.network), results / WORK
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rate-", dir=folder) as work:
        run = CellRun(cell, Path(work), environment.device(), say)
        try:
            point = next(iter(methods.get(cell.method).compress(task, cell.make_config(), run)))
        except Diverged:
            return None
        network = bitstream.decode(bitstream.encode(point)).to(environment.device())
    sign = 1 if task.metrics[0].more_is_better else -1
    return sign * total_score(network, task.validation, task) / len(task.validation)


def read(file: Path) -> list[Trial]:
    """The trials in a file; none if there is no such file."""
    return msgspec.json.decode(storage.read(file), type=list[Trial]) if file.exists() else []
