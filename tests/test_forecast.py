"""What cells will cost: arithmetic by hand on invented records, and speeds that are measured once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_runner
import torch
from invented import made
from test_runner import Laboratory

from benchmarks import record, storage
from benchmarks.record import Record
from benchmarks.running import forecast
from benchmarks.running.forecast import Speed
from methods.interface import Budget

laboratory = test_runner.laboratory
CPU = torch.device("cpu")


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 images a second forward, 10 in training; the network has twice the weights of the records'."""
    monkeypatch.setattr(forecast, "speed", lambda *_: Speed(100.0, 10.0, 80_000))


def curve(budget: Any = "post-training", **changes: Any) -> list[Record]:
    """Two points of 5,000 and 10,000 bytes from a reference of 40,000, 12.5 s each, of which 10 went into scoring."""
    return [
        made("tiny", index=i, budget=budget, suite="digits", file_bytes=size, **changes)
        for i, size in enumerate((5000, 10_000))
    ]


def test_without_training_time_is_scoring_and_compression(laboratory: Laboratory, known_speed: None) -> None:
    found = forecast.cost(laboratory.cells()[0], curve(), CPU)
    assert found is not None
    assert (found.points, found.training_s, found.scoring_s) == (2, 0, 2 * 400 / 100)
    assert found.compression_s == pytest.approx(2 * 2.5 * 2)
    assert found.disk_bytes == pytest.approx(2 * (10_000 + 20_000) / 2)
    assert found.seconds == pytest.approx(8 + 10)


def test_training_is_of_the_budget_or_of_each_point(laboratory: Laboratory, known_speed: None) -> None:
    cell = replace(laboratory.cells()[0], budget=Budget("short", 2.5))
    found = forecast.cost(cell, [*curve(), *curve("short", wall_s=900.0)], CPU)
    assert found is not None and found.training_s == pytest.approx(2.5 * 1197 / 10)
    assert found.compression_s == pytest.approx(2 * 2.5 * 2)  # the method's search, which training hides
    found = forecast.cost(cell, curve("short", wall_s=900.0), CPU)
    assert found is not None and found.compression_s == pytest.approx(2 * 0.5 * 2)  # nothing is known but the encoding
    cell = replace(cell, budget=Budget("paper", None), config={"points": 2, "retrain_epochs": 20})
    found = forecast.cost(cell, curve(), CPU)
    assert found is not None and found.training_s == pytest.approx(2 * 20 * 1197 / 10)


def test_the_configuration_says_how_many_points_there_are(laboratory: Laboratory, known_speed: None) -> None:
    config = {"paper_rates": [0.2, 0.1, 0.05], "ratios": [], "short_points": [1], "epochs": 25, "warmup": [0.1, 0.2]}
    cell = replace(laboratory.cells()[0], budget=Budget("paper", None), config=config)
    found = forecast.cost(cell, curve(), CPU)
    assert found is not None and found.points == 3
    assert found.training_s == pytest.approx(3 * 27 * 1197 / 10)
    found = forecast.cost(replace(cell, config={**config, "ratios": [4, 8]}), curve(), CPU)
    assert found is not None and found.points == 2


@pytest.mark.parametrize(
    ("budget", "config", "points"),
    [
        ("post-training", {"rates": [3, 2, 1], "paper_rates": [1]}, 3),
        ("short", {"rates": [3, 2, 1], "paper_rates": [1]}, 3),
        ("paper", {"rates": [3, 2, 1], "paper_rates": [1]}, 1),
        ("paper", {"points": [[2, 4]] * 8, "short_points": [[2, 4]] * 5, "rounds": 2}, 5),
        ("post-training", {"sparsities": [0.1] * 4, "rounds": [0.5]}, 4),
        ("short", {"sparsities": [0.1] * 4, "rounds": [0.5]}, 1),
        ("paper", {"targets": [0.3, 0.5, 0.7], "epochs": 5}, 3),
        ("post-training", {"points": 7, "milestones": [1, 2, 3]}, 2),  # as many as recorded curves have
    ],
)
def test_points_are_those_of_the_budget(
    budget: Any, config: dict[str, Any], points: int, laboratory: Laboratory, known_speed: None
) -> None:
    cell = replace(laboratory.cells()[0], budget=Budget(budget, None), config=config)
    found = forecast.cost(cell, curve(), CPU)
    assert found is not None and found.points == points


def test_several_seeds_are_curves_of_their_own(laboratory: Laboratory, known_speed: None) -> None:
    found = forecast.cost(laboratory.cells()[0], [*curve(), *curve(seed=1)], CPU)
    assert found is not None and found.points == 2


def test_without_a_record_nothing_is_told(laboratory: Laboratory, known_speed: None) -> None:
    assert forecast.cost(laboratory.cells()[0], [made("other")], CPU) is None


def test_speeds_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(forecast, "_rate", lambda step, images, device: step() or images)
    found = forecast.speed("digits", "digits_cnn", CPU)
    assert found.forward == 64 and found.training == 32 and found.reference_bytes > 4 * 10_000
    monkeypatch.setattr(forecast, "_measured", lambda *_: pytest.fail("measured again"))
    assert forecast.speed("digits", "digits_cnn", CPU) == found


def test_pictures_are_no_faster_than_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(forecast, "_forward", lambda *_: 5000.0)
    monkeypatch.setattr(forecast, "_training", lambda *_: 3.0)
    found = forecast.speed("imagenet", "mobilenet_v2", CPU)
    assert 10 < found.forward < 5000 and found.training == 3.0


def test_the_plan_ends_with_a_sum(
    laboratory: Laboratory, known_speed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for known in curve():
        records.write(
            laboratory.results / "digits" / "digits_cnn" / "tiny" / "old-s9" / f"p{known.index:02d}.json", known
        )
    storage.write(
        laboratory.results / "digits" / "digits_cnn" / "tiny" / "old-s9" / "cell.json", json.dumps({}).encode()
    )
    assert laboratory.ratebench("plan", "digits") == 0
    assert "1 cells: about 0.0 h on " in capsys.readouterr().out
