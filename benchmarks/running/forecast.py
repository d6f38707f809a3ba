"""The expected cost of a cell, from speeds measured on this machine and the method's records on tasks of the same kind.

These are rough estimates: the time for compression is scaled with the size of the network. For a task without a reference
network, a point is expected to take as long as recorded points, including training and scoring.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import records, tasks
from benchmarks.errors import RecordError
from benchmarks.records import Record
from benchmarks.running import params
from benchmarks.running.cell import Cell
from benchmarks.running.speed import speed
from methods.interface import BudgetName, Task

NEAREST: dict[BudgetName, tuple[BudgetName, ...]] = {
    "post-training": ("post-training", "short", "paper"),
    "short": ("short", "paper", "post-training"),
    "paper": ("paper", "short", "post-training"),
}


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of artefacts; `points` is the number of operating points."""

    points: int
    training_s: float
    scoring_s: float
    compression_s: float
    disk_bytes: float

    @property
    def seconds(self) -> float:
        return self.training_s + self.scoring_s + self.compression_s


def cost(cell: Cell, known: Iterable[Record], device: torch.device) -> Cost | None:
    """The cost of one cell; None without a record of its method on a task of the same kind.

    Such records give the time for compression and the file sizes.
    """
    task = tasks.load(cell.task, cell.network)
    own = [r for r in known if r.method == cell.method and _alike(task, r)]
    like = _nearest(cell, own, cell.budget.name)
    if not like:
        return None
    epochs = cell.make_config().operating_points(cell.budget)
    points, size = len(epochs), task.uncompressed_bytes
    disk_bytes = points * statistics.fmean(size / r.rate.ratio for r in like)
    if not task.architecture:  # there is no network to time before a file exists
        return Cost(points, 0.0, 0.0, points * statistics.median(r.wall_s for r in like), disk_bytes)
    here = speed(cell.task, cell.network, device)
    training_items, test_items = tasks.get(cell.task).ITEMS
    untrained = _nearest(cell, own, "post-training")  # all of this time is the method's own, including its search
    each = statistics.median(_compression(r, device) * size / r.rate.uncompressed_bytes for r in untrained)
    return Cost(
        points=points,
        training_s=sum(epochs) * training_items / here.training,
        scoring_s=points * test_items / here.forward,
        compression_s=points * each,
        disk_bytes=disk_bytes,
    )


def _alike(task: Task, known: Record) -> bool:
    """Whether a record's task has the same kind, and has a reference network exactly if `task` has one.

    False if the record's task or network no longer exists.
    """
    try:
        other = tasks.load(known.task, known.network)
    except Exception:  # records outlive code: a task's module can be missing or fail on import in any way
        return False
    return (other.kind, bool(other.architecture)) == (task.kind, bool(task.architecture))


def _nearest(cell: Cell, known: list[Record], wanted: BudgetName) -> list[Record]:
    """Records at the budget nearest to the requested one, of the cell's configuration if possible."""
    for budget in NEAREST[wanted]:
        if found := [r for r in known if r.budget == budget]:
            return [r for r in found if r.config_hash == cell.config_hash] or found
    return []


def _compression(known: Record, device: torch.device) -> float:
    """Seconds of a recorded point without scoring and training."""
    if known.budget != "post-training":
        return known.speed.encode_s
    scoring = known.quality.items / speed(known.task, known.network, device).forward
    return max(known.speed.encode_s, known.wall_s - scoring)


def records_at_hand(results: Path) -> list[Record]:
    """The records of all suites; an estimate leaves out those that can't be used."""
    found = []
    for path in (path for suite in params.names() for path in records.paths(results, suite)):
        with contextlib.suppress(RecordError):
            found.append(records.read_in_place(path))
    return found
