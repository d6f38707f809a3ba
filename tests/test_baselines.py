"""Baselines that have no test file of their own: what they refuse."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import msgspec
import pytest

from benchmarks import tasks
from methods.baselines import magnitude, tucker


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sparsities": (0.5, 0.3)}, "sparsities has to rise, from the largest file to the smallest"),
        ({"sparsities": ()}, "sparsities has to rise, from the largest file to the smallest, with at least one value"),
        ({"sparsities": (-0.1, 0.3)}, ">= 0.0 - at `$.sparsities[0]`"),
        ({"sparsities": (0.1, math.nan)}, "at `$.sparsities[1]`"),
        ({"rounds": ()}, "rounds has to rise"),
        ({"rounds": (0.5, 1.0)}, "< 1.0 - at `$.rounds[1]`"),
        ({"rounds": (0.5, math.inf)}, "at `$.rounds[1]`"),
        ({"score": "lmap"}, "Invalid enum value 'lmap' - at `$.score`"),
        ({"recalibrate": -1}, ">= 0 - at `$.recalibrate`"),
    ],
)
def test_magnitude_refuses_what_it_can_not_follow(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(complaint)):
        msgspec.convert(changes, magnitude.Config)
    assert magnitude.unsupported(tasks.load("digits", "digits_cnn"), magnitude.Config()) is None


def test_without_tensorly_tucker_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorly", None)  # as if it were not installed
    reason = tucker.unsupported(tasks.load("digits", "digits_resnet"), tucker.Config())
    assert reason == "tensorly is not installed: pip install 'ratebench[peers]'"
