"""Hierarchical pruning at its limits: what the ranks allow is met and not exceeded, and what is refused leaves nothing."""

from __future__ import annotations

import pytest
import test_hierarchical as planted
import test_runner
import torch
from test_hierarchical import RUN
from test_runner import Laboratory

from benchmarks import bitstream, records, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from methods import hierarchical

torch.set_num_threads(1)
laboratory = test_runner.laboratory


def test_a_target_above_the_maximum_redundancy_is_refused_before_anything_is_made() -> None:
    config = hierarchical.Config(batches=16, size=16, targets=(0.1, 0.6), protected=0.001)
    with pytest.raises(MethodError, match=r"60% of the MACs of digits_resnet .* allow \d+\.\d%: ask for less"):
        next(hierarchical.compress(tasks.load("digits", "digits_resnet"), config, RUN))


def test_with_floors_at_the_rank_nothing_goes_beyond_the_estimate() -> None:
    """What the theory says: no layer below its rank, no more MACs removed than the ranks leave, and no target above."""
    (free,) = planted.points(targets=(0.02,), protected=0.05, threshold=0.05)
    most = free.notes["redundancy_macs"]
    (point,) = planted.points(targets=(most - 0.01,), protected=0.05, threshold=0.05)
    for _, _, needed, floor, kept in point.notes["layers"]:
        assert kept >= needed == floor
    task = tasks.load("digits", "digits_resnet")
    x = torch.zeros(1, 1, 8, 8)
    left = measure.macs(bitstream.decode(bitstream.encode(point)), x) / measure.macs(task.reference(), x)
    assert 1 - most - 5e-5 <= left <= 1 - most + 0.01  # `most` is rounded
    with pytest.raises(MethodError, match="ask for less, or raise `protected`"):
        planted.points(targets=(most + 0.01,), protected=0.05, threshold=0.05)


def test_a_refused_target_leaves_no_point(laboratory: Laboratory) -> None:
    suite = {"task": "digits", "networks": ["digits_resnet"], "methods": ["hierarchical"], "seeds": [0]}
    configs = {"post-training": {"hierarchical": [{"targets": [0.6], "protected": 0.001, "batches": 8, "size": 16}]}}
    laboratory.configure(digits=suite, configs=configs)
    assert laboratory.run()[0] == ["failed"]
    folder = laboratory.results / laboratory.cells()[0].id
    assert not list(folder.glob("p*"))
    error = records.read_cell(folder / "cell.json").error
    assert error is not None and "ask for less, or raise `protected`" in error
