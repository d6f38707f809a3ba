"""Records and what they rest on: exact counts, sizes and intervals, files written whole, artefacts verified."""

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
from types import SimpleNamespace
from typing import Any

import pytest
import test_runner
import torch
from benchmarks.record import CellState
from invented import made
from test_runner import Laboratory
from torch import Tensor, nn

from benchmarks import networks, record, tasks
from benchmarks.errors import BitstreamError, RateBenchError, RecordError
from benchmarks.evaluation import measure, worker
from benchmarks.evaluation.scoring import total_score
from methods.interface import Split

laboratory = test_runner.laboratory
HISTORIC = Path(__file__).parent / "historic_results"


def test_round_trip(tmp_path: Path) -> None:
    for known in (made(), made(seed=2, budget="paper", epochs=None, config={"steps": [0.1, 1e-30], "name": "ü"})):
        record.write(tmp_path / "deep" / "p00.json", known)
        assert record.read(tmp_path / "deep" / "p00.json") == known
    cell = CellState(record.SCHEMA, "f", "failed", 2, 0.25, "a sentence")
    record.write(tmp_path / "cell.json", cell)
    assert record.read_cell(tmp_path / "cell.json") == cell


def test_records_of_every_schema_load_for_ever() -> None:
    point = record.read(HISTORIC / "point-schema-1.json")
    assert (point.method, point.rate.file_bytes, point.quality.correct) == ("uniform", 11_036, 395)
    assert point.config["grid"] == "batchnorm" and point.point == {"step": 0.1} and point.provenance.gpu is None
    cell = record.read_cell(HISTORIC / "cell-schema-1.json")
    assert (cell.status, cell.points, cell.wall_s, cell.error) == ("failed", 2, 3.25, "ValueError: it gave up")


def _change(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    "damage",
    [
        _change(colour="blue"),
        _change(schema=99),
        _change(schema=[]),
        _change(seed="0"),
        _change(wall_s="12.5 s"),
        _change(rate={}),
        _change(faithful="perhaps"),
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "seed"}),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"alpha"', '"\udcff"'),
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path, damage: Callable[[str], str]) -> None:
    path = tmp_path / "p00.json"
    record.write(path, made())
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(RecordError, match=re.escape(f"{path} is no valid record")):
        record.read(path)


def test_a_missing_record_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"can't read .*p00\.json: No such file"):
        record.read(tmp_path / "p00.json")


def test_numbers_in_a_record_are_numbers(laboratory: Laboratory) -> None:
    laboratory.run()
    plain = json.loads(record.paths(laboratory.results, "digits")[1].read_text())
    numbers = [*plain["rate"]["by_role"].values(), *plain["counted"].values(), plain["seed"], plain["wall_s"]]
    numbers += [value for name, value in plain["rate"].items() if name != "by_role"]
    numbers += [plain["quality"][name] for name in ("correct", "total", "value", "low", "high")]
    numbers += [value for name, value in plain["speed"].items() if name != "device"]
    assert all(isinstance(value, (int, float)) for value in numbers)
    assert plain["provenance"]["started"].endswith("+00:00")
    assert str(laboratory.folder) not in json.dumps(plain)


def test_a_record_adds_up(laboratory: Laboratory) -> None:
    laboratory.run()
    for known in record.load(laboratory.results, "digits"):
        artefact = (laboratory.results / f"{known.id}.rbn").read_bytes()
        assert sum(known.rate.by_role.values()) == known.rate.file_bytes == len(artefact)
        assert known.rate.reference_bytes == 4 * 14_618
        assert known.rate.ratio == pytest.approx(4 * 14_618 / len(artefact))
        assert known.rate.bits_per_weight == pytest.approx(8 * len(artefact) / 14_618)
        assert known.quality.value == known.quality.correct / 400 and known.quality.total == 400
        assert known.quality.low < known.quality.value < known.quality.high


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),  # Newcombe, Statistics in Medicine 17 (1998), table I
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_against_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert measure.wilson(correct, total) == pytest.approx((low, high), abs=5e-5)
    mirrored = measure.wilson(total - correct, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


class Copycat(nn.Module):
    """Predicts the value of the first pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.most = 0

    def forward(self, images: Tensor) -> Tensor:
        self.most = max(self.most, len(images))
        return nn.functional.one_hot(images[:, 0, 0, 0].round().long(), 3) * self.scale


@pytest.mark.parametrize(("side", "most"), [(2, 64), (260, 16)])
def test_correct_predictions_are_counted_exactly_with_a_ragged_last_batch(side: int, most: int) -> None:
    """503 images, the last batch of 55 or 7: the mean of batch means would give another share than 168 / 503."""
    images = (torch.arange(503) % 3).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, side, side)
    task: Any = SimpleNamespace(mean=(0.0,), std=(1 / 255,))
    for label, expected in ((0, 168), (1, 168), (2, 167)):
        split = Split(images, torch.full((503,), label))
        network = Copycat()
        assert (total_score(network, split, task), network.most) == (expected, most)


def test_multiply_accumulates_against_a_count_by_hand() -> None:
    tower = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8 · 3 · 9 at 4 × 4
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),  # 8 · 2 · 9 at 4 × 4
        nn.Flatten(),
        nn.Linear(128, 10),
    ).eval()
    assert measure.macs(tower, torch.zeros(5, 3, 8, 8)) == 8 * 3 * 9 * 16 + 8 * 2 * 9 * 16 + 1280
    digits = networks.build("digits_cnn", {}).eval()
    assert measure.macs(digits, torch.zeros(1, 1, 8, 8)) == 16 * 9 * 64 + 32 * 16 * 9 * 64 + 32 * 32 * 9 * 16 + 320
    resnet = networks.build("cifar_resnet", {"depth": 20}).eval()
    stages = 7 * 16 * 16 * 9 * 1024 - 16 * 13 * 9 * 1024 + 2 * (16 * 32 * 9 * 256 + 5 * 32 * 32 * 9 * 256)
    assert measure.macs(resnet, torch.zeros(1, 3, 32, 32)) == stages + 640 == 40_551_040


def test_elements_are_parameters_and_statistics_but_not_batch_counters() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    assert measure.elements(network)[0] == 2 * 3 + 3 + 4 * 3 and measure.reference_bytes(network) == 4 * 21
    nn.init.zeros_(network[0].weight)
    assert measure.elements(network) == (21, 21 - 6 - 3 - 3)  # the zeros: weights, BatchNorm's bias and mean


def test_verify_tells_same_from_different_from_absent(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.run()
    artefacts = sorted(laboratory.results.rglob("*.rbn"))
    original = artefacts[0].read_bytes()
    assert laboratory.ratebench("verify", "digits") == 0
    assert capsys.readouterr().out == "3 same, 0 differs, 0 no artefact\n"
    artefacts[2].unlink()
    assert laboratory.ratebench("verify", "digits") == 0
    assert capsys.readouterr().out == "2 same, 0 differs, 1 no artefact\n"
    artefacts[0].write_bytes(original[:99] + bytes([original[99] ^ 1]) + original[100:])
    assert laboratory.ratebench("verify", "digits") == 1
    shown = capsys.readouterr()
    assert shown.out == "1 same, 1 differs, 1 no artefact\n" and "p00 differs: the checksum" in shown.err
    artefacts[0].write_bytes(artefacts[1].read_bytes())
    assert laboratory.ratebench("verify", "digits") == 1
    assert "p00 differs: the file has another hash" in " ".join(capsys.readouterr().err.split())
    artefacts[0].write_bytes(original)
    path = record.paths(laboratory.results, "digits")[0]
    correct = record.read(path).quality.correct
    path.write_text(path.read_text().replace(f'"correct": {correct}', f'"correct": {correct + 1}'))
    assert laboratory.ratebench("verify", "digits") == 1
    assert f"p00 differs: {correct} correct, recorded {correct + 1}" in " ".join(capsys.readouterr().err.split())
    for artefact in artefacts[:2]:
        artefact.unlink()
    assert laboratory.ratebench("verify", "digits") == 1
    assert "no artefact of 'digits' is in results" in capsys.readouterr().err


def test_a_fresh_process_scores_what_this_one_scores_and_outlives_a_bad_file(laboratory: Laboratory) -> None:
    laboratory.run()
    good = sorted(laboratory.results.rglob("*.rbn"))[0]
    (laboratory.folder / "bad.rbn").write_bytes(b"not a network")
    known = record.read(good.with_suffix(".json"))
    with worker.Scorer("digits", "digits_cnn", torch.device("cpu")) as fresh:
        with pytest.raises(BitstreamError, match="not a RateBench file"):
            fresh.score(worker.Wanted(str(laboratory.folder / "bad.rbn")))
        with pytest.raises(BitstreamError, match=r"can't read .*absent\.rbn"):
            fresh.score(worker.Wanted(str(laboratory.folder / "absent.rbn")))
        found = fresh.score(worker.Wanted(str(good)))
        assert found.sha256 == known.provenance.artefact_sha256 and found.correct == known.quality.correct
        assert found.by_role == known.rate.by_role and found.macs == known.counted.macs
        assert found.latency_ms_batch1 > 0 and (found.latency_ms_batch128 or 0) > 0
        assert fresh._process is not None
        fresh._process.kill()
        with pytest.raises(RateBenchError, match=r"the process that decodes and scores .* died"):
            fresh.score(worker.Wanted(str(good)))


def test_a_batch_that_would_take_gigabytes_is_not_timed(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory.run()
    wanted = worker.Wanted(str(sorted(laboratory.results.rglob("*.rbn"))[0]))
    example = torch.zeros(2, 1, 8, 8)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))
    assert measure.largest_activation(network, example) == 8 * 6 * 6
    with torch.device("meta"):
        vgg = networks.build("vgg", {"depth": 16})
    size = measure.largest_activation(vgg, torch.zeros(1, 3, 224, 224, device="meta"))
    assert size == 64 * 224 * 224 and worker.LATENCY_BATCH * size * 4 > worker.MOST
    monkeypatch.setattr(worker, "MOST", 0)
    assert worker.score(wanted, "digits", "digits_cnn", torch.device("cpu")).latency_ms_batch128 is None


def test_what_was_counted_before_a_kill_is_not_counted_again(
    laboratory: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle of an evaluation in six shards, of which two are noted."""
    laboratory.run()
    artefact = sorted(laboratory.results.rglob("*.rbn"))[0]
    wanted = worker.Wanted(str(artefact), str(tmp_path / "notes"))
    monkeypatch.setattr(worker, "SHARD", 1)
    calls: list[range] = []

    def counted(network: Any, split: Split, task: Any, part: range) -> int:
        calls.append(part)
        if child == 0 and len(calls) == 3:
            os.kill(os.getpid(), 9)
        return total_score(network, split, task, part)

    monkeypatch.setattr(worker, "correct_predictions", counted)
    child = os.fork()
    if child == 0:
        worker.score(wanted, "digits", "digits_cnn", torch.device("cpu"))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and len(list((tmp_path / "notes").iterdir())) == 2
    found = worker.score(wanted, "digits", "digits_cnn", torch.device("cpu"))
    known = record.read(artefact.with_suffix(".json")).quality
    assert (found.correct, found.total) == (known.correct, known.total)
    assert [part.start for part in calls] == list(range(128, known.total, 64))
    shares = [worker.Wanted(str(artefact), None, first, 3) for first in range(3)]
    parts = [worker.score(share, "digits", "digits_cnn", torch.device("cpu")) for share in shares]
    assert sum(part.correct for part in parts) == known.correct and sum(part.total for part in parts) == known.total


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
        budget = iter([None] * 2)

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
    assert {Path(name).name for name in written} == {"p00.json", "p00.rbn"}
    assert list(record.load(full_disk, "digits"))


def test_a_results_folder_that_is_a_file_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.results.write_text("not a folder")
    assert laboratory.ratebench("run", "digits") == 1
    assert capsys.readouterr().err == "error: can't write in results: Not a directory\n"
