"""The score of a file on the task's validation items: configurations are chosen by it, and nothing is ranked by it."""

from __future__ import annotations

from pathlib import Path

from benchmarks import bitstream
from benchmarks.errors import TaskError
from benchmarks.evaluation import scoring
from benchmarks.evaluation.metrics import NOTHING, Sums, sums
from benchmarks.running.environment import device
from benchmarks.training import processes
from benchmarks.training.layout import channels_last
from methods.interface import Task


def validated(artefact: Path, task: Task) -> Sums | None:
    """This process's part of the sums of the first metric over the validation items; None if the task has no such items."""
    try:
        split = task.validation
    except TaskError:
        return None
    own = range(*(len(split) * number // processes.count() for number in (processes.rank(), processes.rank() + 1)))
    if not own:
        return NOTHING
    network = bitstream.decode(artefact.read_bytes()).to(device())
    channels_last(network)
    return sums(scoring.scores(network, split, task, own)[task.metrics[0].name])
