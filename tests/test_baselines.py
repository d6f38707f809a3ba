"""Baselines that have no test file of their own: what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import tasks
from methods.baselines import magnitude


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sparsities": (0.5, 0.3)}, "sparsities and rounds have to rise, from 0 to below 1"),
        ({"sparsities": ()}, "sparsities and rounds have to rise"),
        ({"rounds": (0.5, 1.0)}, "from 0 to below 1"),
        ({"score": "lmap"}, "score has to be global, layer_normalised or lamp"),
        ({"value_bits": 1}, "value_bits 2 to 16"),
        ({"lr": float("nan")}, "lr has to be above 0"),
        ({"epochs": 0}, "epochs at least 1"),
        ({"recalibrate": -1}, "recalibrate not negative"),
    ],
)
def test_magnitude_refuses_what_it_can_not_follow(changes: dict[str, Any], complaint: str) -> None:
    reason = magnitude.unsupported(tasks.load("digits", "digits_cnn"), magnitude.Config(**changes))
    assert reason is not None and complaint in reason
    assert magnitude.unsupported(tasks.load("digits", "digits_cnn"), magnitude.Config()) is None
