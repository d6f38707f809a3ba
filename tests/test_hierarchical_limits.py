"""Hierarchical pruning at its limits: what the ranks allow is met and not exceeded, and what is refused leaves nothing."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
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


def test_a_target_above_the_maximum_redundancy_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hierarchical, "PROTECTED", 0.001)
    config = hierarchical.Config(batches=16, size=16, targets=(0.1, 0.6))
    with pytest.raises(MethodError, match=r"60% of the MACs of digits_resnet .* allow \d+\.\d%: ask for less"):
        next(hierarchical.compress(tasks.load("digits", "digits_resnet"), config, RUN))


def test_with_floors_at_the_rank_nothing_goes_beyond_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the theory says: no layer below its rank, no more MACs removed than the ranks leave, and no target above."""
    monkeypatch.setattr(hierarchical, "PROTECTED", 0.05)
    (free,) = planted.points(targets=(0.02,), threshold=0.05)
    most = free.notes["redundancy_macs"]
    (point,) = planted.points(targets=(most - 0.01,), threshold=0.05)
    for _, _, needed, floor, kept in point.notes["layers"]:
        assert kept >= needed == floor
    task = tasks.load("digits", "digits_resnet")
    x = torch.zeros(1, 1, 8, 8)
    left = measure.macs(bitstream.decode(bitstream.encode(point)), x) / measure.macs(task.reference(), x)
    assert 1 - most - 5e-5 <= left <= 1 - most + 0.01  # `most` is rounded
    with pytest.raises(MethodError, match="ask for less"):
        planted.points(targets=(most + 0.01,), threshold=0.05)


def test_a_refused_target_leaves_no_point(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchical, "PROTECTED", 0.001)
    suite = {"task": "digits", "networks": ["digits_resnet"], "methods": ["hierarchical"], "seeds": [0]}
    configs = {"post-training": {"hierarchical": [{"targets": [0.6], "batches": 8, "size": 16}]}}
    laboratory.configure(digits=suite, configs=configs)
    assert laboratory.run()[0] == ["failed"]
    folder = laboratory.results / laboratory.cells()[0].id
    assert not list(folder.glob("p*"))
    error = records.read_cell(folder / "cell.json").error
    assert error is not None and "ask for less" in error


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"where": "branches"}, "where has to be inner or streams"),
        ({"where": "everywhere"}, "Invalid enum value 'everywhere' - at `$.where`"),
        ({"rank": "nuclear"}, "Invalid enum value 'nuclear' - at `$.rank`"),
        ({"drawn": "guessed"}, "Invalid enum value 'guessed' - at `$.drawn`"),
        ({"threshold": 0.0}, "> 0.0 - at `$.threshold`"),
        ({"threshold": math.nan}, "at `$.threshold`"),
        ({"share": 0.0}, "> 0.0 - at `$.share`"),
        ({"share": 1.1}, "<= 1.0 - at `$.share`"),
        ({"tolerance": 0.0}, "> 0.0 - at `$.tolerance`"),
        ({"tolerance": math.nan}, "at `$.tolerance`"),
        ({"batches": 0}, ">= 1 - at `$.batches`"),
        ({"size": 0}, ">= 1 - at `$.size`"),
        ({"targets": (0.5, 0.3)}, "targets has to rise"),
        ({"order": "random"}, "Invalid enum value 'random' - at `$.order`"),
        ({"blocks": -0.1}, ">= 0.0 - at `$.blocks`"),
        ({"blocks": math.nan}, "at `$.blocks`"),
        ({"blocks": math.inf}, "at `$.blocks`"),
    ],
)
def test_settings_that_can_not_be_followed(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(complaint)):
        msgspec.convert(changes, hierarchical.Config)
