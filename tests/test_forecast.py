"""What cells will cost: arithmetic by hand on invented records, and speeds that are measured once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import test_runner
import torch
from invented import made
from test_runner import Laboratory
from torch import nn

import methods
from benchmarks import networks, records, storage, tasks
from benchmarks.records import Record
from benchmarks.running import forecast, params, speed
from benchmarks.running.cell import Cell
from benchmarks.running.speed import Speed
from methods.interface import CLASSIFICATION, Budget, BudgetName

laboratory = test_runner.laboratory
CPU = torch.device("cpu")


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 images a second forward, 10 in training."""
    monkeypatch.setattr(forecast, "speed", lambda *_: Speed(100.0, 10.0))


LARGER = 4 * 14_618 / 40_000  # digits_cnn, against the network of the records


def curve(budget: Any = "post-training", method: str = "tiny", **changes: Any) -> list[Record]:
    """Two points of 5,000 and 10,000 bytes from a reference of 40,000, 12.5 s each, of which 10 went into scoring."""
    return [
        made(method, index=i, budget=budget, suite="digits", network="digits_cnn", file_bytes=size, **changes)
        for i, size in enumerate((5000, 10_000))
    ]


def cell_of(method: str, budget: Budget, **settings: Any) -> Cell:
    config = params.plain(msgspec.convert(settings, methods.get(method).Config))
    return Cell("digits", "digits", "digits_cnn", method, config, budget, 0)


def test_without_training_time_is_scoring_and_compression(laboratory: Laboratory, known_speed: None) -> None:
    found = forecast.cost(laboratory.cells()[0], curve(), CPU)
    assert found is not None
    assert (found.points, found.training_s, found.scoring_s) == (3, 0, 3 * 400 / 100)
    assert found.compression_s == pytest.approx(3 * 2.5 * LARGER)
    assert found.disk_bytes == pytest.approx(3 * (5000 + 10_000) * LARGER / 2)
    assert found.seconds == pytest.approx(12 + 3 * 2.5 * LARGER)


def test_training_is_of_the_budget_or_of_the_papers_schedule(known_speed: None) -> None:
    cell = cell_of("magnitude", Budget("short", 2.5))
    known = curve(method="magnitude")
    found = forecast.cost(cell, [*known, *curve("short", "magnitude", wall_s=900.0)], CPU)
    assert found is not None and found.training_s == pytest.approx(5 * 2.5 * 1197 / 10)
    assert found.compression_s == pytest.approx(5 * 2.5 * LARGER)  # the method's search, which training hides
    found = forecast.cost(cell, curve("short", "magnitude", wall_s=900.0), CPU)
    assert found is not None and found.compression_s == pytest.approx(
        5 * 0.5 * LARGER
    )  # the encoding is all that is known
    found = forecast.cost(replace(cell, budget=Budget("paper", None)), known, CPU)
    assert found is not None and found.training_s == pytest.approx(5 * 20 * 1197 / 10)
    settings = {"paper_rates": [0.2, 0.1, 0.05], "epochs": 25, "warmup": [0.1, 0.2], "milestones": [5]}
    found = forecast.cost(cell_of("jsvd", Budget("paper", None), **settings), curve(method="jsvd"), CPU)
    assert found is not None and found.training_s == pytest.approx(3 * 27 * 1197 / 10)


@pytest.mark.parametrize(
    ("method", "budget", "settings", "points"),
    [
        ("jsvd", "post-training", {"rates": [3, 2, 1], "paper_rates": [1]}, 3),
        ("jsvd", "short", {"rates": [3, 2, 1], "paper_rates": [1]}, 3),
        ("jsvd", "paper", {"rates": [3, 2, 1], "paper_rates": [1]}, 1),
        ("jsvd", "paper", {"rates": [3, 2, 1], "paper_rates": [1], "ratios": [4, 8]}, 2),
        ("magnitude", "post-training", {"sparsities": [0.1, 0.2, 0.3, 0.4], "rounds": [0.5]}, 4),
        ("magnitude", "short", {"sparsities": [0.1, 0.2, 0.3, 0.4], "rounds": [0.5]}, 1),
        ("aq", "paper", {"points": [[8, 16], [6, 16], [4, 16]], "short_points": [[6, 16], [4, 16]]}, 2),
        ("aq", "paper", {"ratios": [7.2, 15.3, 20]}, 3),
        ("psap", "paper", {"targets": [0.3, 0.5, 0.7], "epochs": 5}, 3),
        ("reference", "post-training", {}, 2),
    ],
)
def test_points_are_those_of_the_budget(
    method: str, budget: BudgetName, settings: dict[str, Any], points: int, known_speed: None
) -> None:
    epochs = {"post-training": 0.0, "short": 2.5, "paper": None}[budget]
    found = forecast.cost(cell_of(method, Budget(budget, epochs), **settings), curve(method=method), CPU)
    assert found is not None and found.points == points


def test_records_of_the_same_configuration_come_first(laboratory: Laboratory, known_speed: None) -> None:
    cell = laboratory.cells()[0]
    other = [replace_size(r, 40_000) for r in curve()]
    assert all(r.config_hash != cell.config_hash for r in other)
    own = curve(config_hash=cell.config_hash, seed=1)
    found, alone = (forecast.cost(cell, known, CPU) for known in ([*other, *own], own))
    assert found is not None and found == alone


def replace_size(known: Record, size: int) -> Record:
    rate = msgspec.structs.replace(known.rate, file_bytes=size, ratio=known.rate.uncompressed_bytes / size)
    return msgspec.structs.replace(known, rate=rate)


def test_without_a_record_nothing_is_told(laboratory: Laboratory, known_speed: None) -> None:
    assert forecast.cost(laboratory.cells()[0], [made("other")], CPU) is None


def test_records_of_another_kind_of_task_tell_nothing(
    laboratory: Laboratory, known_speed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do those of a task without a reference network, or of a task or network that no longer exists."""
    cell, load = laboratory.cells()[0], tasks.load
    kinds = {"tables": ("regression", "mlp"), "drawn": (CLASSIFICATION, ""), "alike": (CLASSIFICATION, "mlp")}

    def loaded(name: str, network: str) -> Any:
        return (
            SimpleNamespace(kind=kinds[name][0], architecture=kinds[name][1]) if name in kinds else load(name, network)
        )

    monkeypatch.setattr(tasks, "load", loaded)
    others = [
        r for task in ("tables", "drawn", "gone") for r in curve(task=task, wall_s=9e9, config_hash=cell.config_hash)
    ]
    others += [msgspec.structs.replace(r, network="gone") for r in curve()]
    assert forecast.cost(cell, others, CPU) is None
    assert forecast.cost(cell, [*others, *curve(task="alike")], CPU) == forecast.cost(cell, curve(), CPU) is not None


def test_speeds_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(speed, "_rate", lambda step, items, device: step() or items)
    found = speed.speed("digits", "digits_cnn", CPU)
    assert (found.forward, found.training) == (64, 32)
    monkeypatch.setattr(speed, "_measured", lambda *_: pytest.fail("measured again"))
    assert speed.speed("digits", "digits_cnn", CPU) == found


def test_pictures_are_no_faster_than_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(speed, "_forward", lambda *_: 5000.0)
    monkeypatch.setattr(speed, "_training", lambda *_: 3.0)
    found = speed.speed("imagenet", "mobilenet_v2", CPU)
    assert 10 < found.forward < 5000 and found.training == 3.0
    assert [name for name in tasks.names() if speed.decodes(name)] == ["imagenet", "imagenet_sample", "imagenet_tiny"]


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), (4,)),  # a regression: one number for each item
        (nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten()), (1, 4, 4, 4)),
        (nn.Sequential(nn.Conv2d(3, 2, 8, 8), nn.Flatten()), (3, 96, 96)),  # large images, but in memory
    ],
    ids=["numbers", "volumes", "images"],
)
def test_every_network_has_a_speed(network: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    test = SimpleNamespace(example=torch.zeros(1, *shape))
    monkeypatch.setattr(tasks, "get", lambda _: SimpleNamespace(ITEMS=(64, 64), test=lambda _: test))
    monkeypatch.setattr(tasks, "load", lambda *_: SimpleNamespace(architecture="", arguments={}))
    monkeypatch.setattr(networks, "build", lambda *_: network)
    monkeypatch.setattr(speed, "_rate", lambda step, items, device: step() or items)
    monkeypatch.setattr(speed, "_decoding", lambda _: pytest.fail("there is nothing to decode"))
    assert speed._measured("any", "any", CPU) == {"forward": 64, "training": 32}


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
    assert "1 cell: about 0.0 h on " in capsys.readouterr().out
