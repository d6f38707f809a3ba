"""Records: written whole, read for ever, with what was measured of every test item beside them; artefacts verified."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
import test_runner
import torch
from invented import averaged, counted, made
from test_runner import InProcess, Laboratory

from benchmarks import records, tasks
from benchmarks.errors import RecordError
from benchmarks.evaluation import verify
from benchmarks.evaluation.metrics import sums
from benchmarks.records import CellState, Score, items
from benchmarks.tasks.kinds.metrics import TOP1
from methods.interface import Metric

laboratory = test_runner.laboratory
HISTORIC = Path(__file__).parent / "historic_results"
MEAN = Metric("error", "mm", "mean", "How far off", more_is_better=False)


def test_round_trip(tmp_path: Path) -> None:
    score = averaged(MEAN, [0.25, 0.5, 0.75])
    rate = {**plain(made())["rate"], "bits_per_weight": None}
    for known in (
        made(),
        made(seed=2, budget="paper", epochs=None, config={"steps": [0.1, 1e-30], "name": "ü"}),
        made(metrics={"error": score, "top-1": made().quality}, rate=records.Rate(**rate)),
    ):
        records.write(tmp_path / "deep" / "p00.json", known)
        assert records.read(tmp_path / "deep" / "p00.json") == known
    assert list(known.metrics) == ["error", "top-1"] and known.metric == "error" and known.quality == score
    cell = CellState(records.SCHEMA, "f" * 16, "failed", 2, 0.25, "a sentence")
    records.write(tmp_path / "cell.json", cell)
    assert records.read_cell(tmp_path / "cell.json") == cell


def plain(known: records.Record | CellState) -> Any:
    return msgspec.to_builtins(known)


def test_records_of_every_schema_load_for_ever() -> None:
    for schema in range(1, records.SCHEMA + 1):
        point = records.read(HISTORIC / f"point-schema-{schema}.json")
        assert (point.method, point.rate.file_bytes, point.quality.total) == ("uniform", 11_036, 395)
        assert point.config["grid"] == "batchnorm" and point.point == {"step": 0.1} and point.provenance.gpu is None
        assert (point.metric, point.quality.squares, point.rate.uncompressed_bytes) == ("top-1", 395, 58_472)
        assert point.schema == records.SCHEMA and point.fidelity == "baseline"
        cell = records.read_cell(HISTORIC / f"cell-schema-{schema}.json")
        assert (cell.status, cell.points, cell.wall_s, cell.error) == ("failed", 2, 3.25, "ValueError: it gave up")
        assert cell.schema == records.SCHEMA


def as_schema_1(new: dict[str, Any]) -> dict[str, Any]:
    """The inverse of the migration, for records that have one count of correct predictions."""
    ((metric, score),) = new["metrics"].items()
    assert score["total"] == score["squares"]
    quality = {name: score[name] for name in ("value", "low", "high")}
    quality |= {"metric": metric, "correct": score["total"], "total": score["items"], "selection": new["selection"]}
    rate = {**new["rate"], "reference_bytes": new["rate"]["uncompressed_bytes"]}
    del rate["uncompressed_bytes"]
    old = {**new, "schema": 1, "faithful": new["fidelity"], "quality": quality, "rate": rate}
    return {name: value for name, value in old.items() if name not in ("metrics", "fidelity", "selection")}


def test_no_value_of_an_older_record_is_lost() -> None:
    """All that schema 1 said is there again; what is new since has its default."""
    old = json.loads((HISTORIC / "point-schema-1.json").read_text())
    again = as_schema_1(plain(records.read(HISTORIC / "point-schema-1.json")))
    added = {"processes": 1, "micro": None}
    assert again == {
        **old,
        "learning_rate": None,
        "validation": None,
        "notes": {},
        "provenance": {**old["provenance"], **added},
    }
    cell = json.loads((HISTORIC / "cell-schema-1.json").read_text())
    assert plain(records.read_cell(HISTORIC / "cell-schema-1.json")) == {**cell, "schema": records.SCHEMA}


def _change(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    "damage",
    [
        _change(schema=0),
        _change(schema=True),
        _change(schema=[]),
        _change(seed="0"),
        _change(wall_s="12.5 s"),
        _change(rate={}),
        _change(metrics={}),
        _change(schema=1),
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "seed"}),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"alpha"', '"\udcff"')[:-9],
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path, damage: Callable[[str], str]) -> None:
    path = tmp_path / "p00.json"
    records.write(path, made())
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(RecordError, match=re.escape(f"{path} is not a valid record (")):
        records.read(path)


def test_a_missing_record_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"can't read .*p00\.json: No such file"):
        records.read(tmp_path / "p00.json")


def test_numbers_in_a_record_are_numbers(laboratory: Laboratory) -> None:
    laboratory.run()
    known = json.loads(records.paths(laboratory.results, "digits")[1].read_text())
    numbers = [*known["rate"]["by_role"].values(), *known["counted"].values(), known["seed"], known["wall_s"]]
    numbers += [value for name, value in known["rate"].items() if name != "by_role"]
    numbers += [known["metrics"]["top-1"][name] for name in ("items", "total", "squares", "value", "low", "high")]
    numbers += [value for name, value in known["speed"].items() if name != "device"]
    assert all(isinstance(value, (int, float)) for value in numbers)
    assert known["provenance"]["started"].endswith("+00:00")
    assert str(laboratory.folder) not in json.dumps(known)


def test_a_record_adds_up(laboratory: Laboratory) -> None:
    laboratory.run()
    for known in records.load(laboratory.results, "digits"):
        artefact = (laboratory.results / f"{known.id}.rbn").read_bytes()
        assert sum(known.rate.by_role.values()) == known.rate.file_bytes == len(artefact)
        assert known.rate.uncompressed_bytes == 4 * 14_618
        assert known.rate.ratio == pytest.approx(4 * 14_618 / len(artefact))
        assert known.rate.bits_per_weight == pytest.approx(8 * len(artefact) / 14_618)
        assert list(known.metrics) == ["top-1"] and known.quality.squares == known.quality.total
        assert known.quality.value == known.quality.total / 400 and known.quality.items == 400
        assert known.quality.low < known.quality.value < known.quality.high


def test_verify_tells_same_from_different_from_absent(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory.run()
    started: list[None] = []

    class Counted(InProcess):
        def __enter__(self) -> Self:
            started.append(None)
            return self

    monkeypatch.setattr(verify, "Scorer", Counted)
    artefacts = sorted(laboratory.results.rglob("*.rbn"))
    original = artefacts[0].read_bytes()
    assert laboratory.ratebench("verify", "digits") == 0
    assert capsys.readouterr().out == "3 same, 0 differs, 0 no artefact\n" and len(started) == 3
    artefacts[2].unlink()
    assert laboratory.ratebench("verify", "digits") == 0
    assert capsys.readouterr().out == "2 same, 0 differs, 1 no artefact\n" and len(started) == 5
    artefacts[0].write_bytes(original[:99] + bytes([original[99] ^ 1]) + original[100:])
    assert laboratory.ratebench("verify", "digits") == 1
    shown = capsys.readouterr()
    assert shown.out == "1 same, 1 differs, 1 no artefact\n" and "p00 differs: the checksum" in shown.err
    artefacts[0].write_bytes(artefacts[1].read_bytes())
    assert laboratory.ratebench("verify", "digits") == 1
    assert "p00 differs: the file has another hash" in " ".join(capsys.readouterr().err.split())
    artefacts[0].write_bytes(original)
    path = records.paths(laboratory.results, "digits")[0]
    known = records.read(path)
    total = int(known.quality.total)
    records.write(path, msgspec.structs.replace(known, metrics={"top-1": counted(total + 1, 400)}))
    items.path_beside(path).unlink()
    assert laboratory.ratebench("verify", "digits") == 1
    said = f"p00 differs: top-1: {total} over 400 items, recorded top-1: {total + 1} over 400 items"
    assert said in " ".join(capsys.readouterr().err.split())
    for artefact in artefacts[:2]:
        artefact.unlink()
    assert laboratory.ratebench("verify", "digits") == 1
    assert "no artefact of 'digits' is in results" in capsys.readouterr().err


def test_which_test_items_were_right_is_kept_beside_a_record(laboratory: Laboratory) -> None:
    laboratory.configure({"points": 1})
    laboratory.run()
    (path,) = records.paths(laboratory.results, "digits")
    assert items.path_beside(path).stat().st_size == 50  # a bit for each of 400 images
    found = items.read(path, TOP1, records.read(path).quality)
    task, network = tasks.load("digits", "digits_cnn"), tasks.load("digits", "digits_cnn").reference()
    split = tasks.get("digits").test_split()  # type: ignore[attr-defined]
    with torch.inference_mode():
        right = network(task.prepare(split.inputs)).argmax(1) == split.targets
    assert found is not None and torch.equal(found, right) and not right.all()
    items.path_beside(path).unlink()
    assert items.read(path, TOP1, records.read(path).quality) is None
    assert laboratory.ratebench("run", "digits") == 0 and not items.path_beside(path).exists()  # they are optional


def scored(values: torch.Tensor) -> Score:
    found = sums(values)
    return Score(items=found.items, total=found.total, squares=found.squares, value=found.value, low=0.0, high=1.0)


@pytest.mark.parametrize("count", [1, 7, 8, 10_000])
def test_items_take_a_bit_or_four_bytes_each(count: int, tmp_path: Path) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(count))
    for metric, each, size in ((TOP1, values > 0, (count + 7) // 8), (MEAN, values, 4 * count)):
        data = items.pack(metric, each)
        assert len(data) == size
        (tmp_path / "p00.items").write_bytes(data)
        found = items.read(tmp_path / "p00.json", metric, scored(each))
        assert found is not None and torch.equal(found, each)
    assert len(items.pack(TOP1, torch.ones(10_000, dtype=torch.bool))) == 1250
    assert items.pack(MEAN, torch.tensor([1.0, -2.0], dtype=torch.float64)).hex() == "0000803f000000c0"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: bytes([data[0] ^ 128]) + data[1:],  # another image is right
        lambda data: data[:-1] + bytes([data[-1] | 1]),  # a bit of no image
    ],
    ids=["cut", "longer", "empty", "another", "unused bit"],
)
def test_items_that_are_not_those_of_the_record_are_one_sentence(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    right = torch.arange(401) % 3 > 0
    (tmp_path / "p00.items").write_bytes(damage(items.pack(TOP1, right)))
    sentence = (
        r"p00\.items does not hold the 401 items that p00\.json sums up: .* or move p00\.items out of the results"
    )
    with pytest.raises(RecordError, match=sentence):
        items.read(tmp_path / "p00.json", TOP1, scored(right))


def test_values_that_are_not_those_of_the_record_are_one_sentence(tmp_path: Path) -> None:
    values = torch.arange(50) / 7
    for other in (values[1:], values + 0.01, values.flip(0)[:49], values * float("nan")):
        (tmp_path / "p00.items").write_bytes(items.pack(MEAN, other))
        with pytest.raises(RecordError, match=r"p00\.items does not hold the 50 items"):
            items.read(tmp_path / "p00.json", MEAN, scored(values))


def test_values_that_nearly_cancel_are_those_of_the_record(tmp_path: Path) -> None:
    """In fp32 their sum is another one than in fp64; one of 1,000 values that is another one is told all the same."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values -= values.mean()
    (tmp_path / "p00.items").write_bytes(items.pack(MEAN, values))
    found = items.read(tmp_path / "p00.json", MEAN, scored(values))
    assert found is not None and torch.equal(found, values.float())
    values[0] += 0.01
    (tmp_path / "p00.items").write_bytes(items.pack(MEAN, values))
    with pytest.raises(RecordError, match=r"move p00\.items out of the results to use the record alone"):
        items.read(tmp_path / "p00.json", MEAN, scored(values - 0.01))


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A results folder with room for one artefact but not for two: a tiny file system where one can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    able = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount")
    mounted = bool(able) and subprocess.run(mount, capture_output=True).returncode == 0
    if not mounted:
        tasks.load("digits", "digits_cnn").reference()  # written before the disk is full
        budget = iter([None] * 5)  # an artefact, two shards of scores, its items, its record

        def fsync(_: int) -> None:
            if next(budget, "spent") == "spent":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fsync)
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    laboratory: Laboratory, full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert laboratory.ratebench("run", "digits", "--results", str(full_disk)) == 1
    complaint = capsys.readouterr().err.strip()
    assert re.fullmatch(
        r"error: can't write .*/p0[12]\.\w+: the disk is full: free some space and run again", complaint
    )
    written = laboratory.files("*", full_disk) | laboratory.files(".*", full_disk)
    assert {Path(name).name for name in written} == {"p00.json", "p00.rbn", "p00.items"}
    assert list(records.load(full_disk, "digits"))


def test_a_results_folder_that_is_a_file_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.results.write_text("not a folder")
    assert laboratory.ratebench("run", "digits") == 1
    assert capsys.readouterr().err == "error: can't write in results: Not a directory\n"
