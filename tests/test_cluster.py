"""Cells on a Ray cluster; Ray is an optional extra."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import RateBenchError
from benchmarks.running import cluster, plan


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RateBenchError, match=r"ratebench\[cluster\]"):
        list(cluster.completed(plan.cells("digits"), tmp_path, "auto", print, False))


def test_every_cell_comes_back_with_its_outcome(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra: cluster)")

    def double(
        cell: Any, results: Path, threads: int, fresh: bool
    ) -> tuple[str, bool]:  # local: Ray pickles it by value
        return f"{cell.method} in {results.name} on {threads} threads", fresh

    cells = plan.cells("digits", ["reference", "nnc"])
    ended = dict((cell.method, outcome) for cell, outcome in cluster.completed(cells, tmp_path, "local", double, True))
    assert set(ended) == {"reference", "nnc"}
    assert all(text.startswith(f"{key} in {tmp_path.name} on ") and fresh for key, (text, fresh) in ended.items())
