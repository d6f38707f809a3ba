"""The choice of a learning rate: each of a small grid is tried at one operating point and judged on the validation split.

One method is tried for its family, with its first configuration and only the middle of each of its grids. The file of the point
is decoded and scored on the task's validation items; the rate with the best score is chosen, the lowest one of equals. Test
items play no part. The validation items may be among those on which a public reference was trained: this favours rates that
leave a network as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

import methods
from benchmarks import bitstream, storage, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation.scoring import total_score
from benchmarks.running import environment, plan
from benchmarks.running.cell import Cell
from benchmarks.running.lent import CellRun, Say
from benchmarks.running.state import WORK
from methods.interface import Budget

GRID = (0.0003, 0.001, 0.003, 0.01, 0.03)
FILE = "learning_rates.json"  # in the folder of a suite's network
__fingerprint__ = False  # what it chooses is in params.yaml


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was tried for `methods`, the first of which ran: scores on the validation split by learning rate."""

    methods: list[str]
    budget: str
    epochs: float
    config: dict[str, Any]
    scores: dict[str, float]
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    cpu: str

    @property
    def chosen(self) -> float:
        """The rate with the best score, the lowest one of equals."""
        return min(map(float, self.scores), key=lambda rate: (-self.scores[f"{rate:g}"], rate))


def tried(suite: str, keys: Sequence[str], network: str, budget: str, results: Path, say: Say) -> Trial:
    """Try each rate of GRID for the first of `keys`, and note the result in FILE. An interrupted trial is resumed.

    Raises MethodError if the budget has no training or no number of epochs.
    """
    (cell, *_) = plan.cells(suite, keys[:1], [network], budget)
    epochs = cell.budget.epochs
    if not epochs:
        msg = f"the budget {budget} has no number of epochs, so there is no learning rate to choose"
        raise MethodError(msg)
    cell = replace(cell, config={name: _middle(value) for name, value in cell.config.items()})
    scores = {}
    for rate in GRID:
        scores[f"{rate:g}"] = _score(replace(cell, budget=Budget(cell.budget.name, epochs, rate)), results, say)
        say(f"{cell.network}, {keys[0]}, learning rate {rate:g}: {scores[f'{rate:g}']:.4f}")
    commit, dirty = environment.commit()
    trial = Trial(
        list(keys), budget, epochs, cell.config, scores, commit, dirty, environment.versions(), environment.cpu()
    )
    file = results / suite / network / FILE
    others = [known for known in read(file) if not set(known.methods) & set(keys)]
    entries = sorted([*others, trial], key=lambda known: known.methods)
    storage.write(file, msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n")
    return trial


def _middle(value: Any) -> Any:
    """The middle of a grid, as a grid of one value; anything else as it is."""
    return [value[len(value) // 2]] if isinstance(value, list) and len(value) > 2 else value


def _score(cell: Cell, results: Path, say: Say) -> float:
    """The mean score of the decoded file of a cell's only point on the validation split: more is better."""
    task = tasks.load(cell.task, cell.network)
    work = results / WORK / f"rate-{cell.id.replace('/', '--')}-{cell.budget.learning_rate:g}"
    work.mkdir(parents=True, exist_ok=True)
    run = CellRun(cell, work, environment.device(), say)
    point = next(iter(methods.get(cell.method).compress(task, cell.make_config(), run)))
    network = bitstream.decode(bitstream.encode(point)).to(environment.device())
    sign = 1 if task.metrics[0].more_is_better else -1
    found = sign * total_score(network, task.validation, task) / len(task.validation)
    shutil.rmtree(work)
    return found


def read(file: Path) -> list[Trial]:
    """The trials in a file; none if there is no such file."""
    return msgspec.json.decode(storage.read(file), type=list[Trial]) if file.exists() else []


def chosen(results: Path) -> Iterator[tuple[str, str, str, float]]:
    """(budget, network, method, learning rate) of all trials."""
    for file in sorted(results.glob(f"*/*/{FILE}")):
        for trial in read(file):
            for key in trial.methods:
                yield trial.budget, file.parent.name, key, trial.chosen
