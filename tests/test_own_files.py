"""Files that the suite writes for itself: a changed bit, another end or another file is noticed, never used."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_runner
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_runner import Laboratory
from torch import nn

from benchmarks import networks, storage, tasks
from benchmarks.data.download import RemoteFile
from benchmarks.errors import DamagedFile, RateBenchError, TaskError
from benchmarks.evaluation import shards
from benchmarks.evaluation.metrics import Sums
from benchmarks.running import speed
from benchmarks.running.lent import CellRun, Clock
from benchmarks.running.state import WORK
from benchmarks.tasks import cifar10, digits

laboratory = test_runner.laboratory
CPU = torch.device("cpu")
REMEDY = "run with --fresh to start this cell over"


def flips(data: bytes, count: int) -> Iterator[bytes]:
    """Copies with one bit changed, at evenly spaced positions from the first bit to the last."""
    for number in range(count):
        place = number * (8 * len(data) - 1) // max(1, count - 1)
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)


def odd(data: bytes) -> list[bytes]:
    """Empty, cut, longer, and foreign files."""
    other = pickle.dumps({"epochs": 1})
    cuts = [data[:n] for n in (1, 70, len(data) // 2, len(data) - 1)]
    return [b"", *cuts, data + b"\n", data + data, data[1:], b"<html>", other, storage.seal(other), bytes(100)]


def old_format(tensors: dict[str, Any], path: Path) -> bytes:
    torch.save(tensors, path)
    return path.read_bytes()


def test_the_cache_has_a_folder_of_its_own_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    assert storage.cache_folder() == tmp_path
    monkeypatch.delenv("RATEBENCH_CACHE")
    assert "ratebench" in storage.cache_folder().parts


def test_any_changed_bit_of_a_checkpoint_is_refused(laboratory: Laboratory, tmp_path: Path) -> None:
    """Of 3,000 positions, and of every bit at the end. torch would accept most of them: it skips the zip's own checksums."""
    run = CellRun(laboratory.cells()[0], tmp_path / "work", CPU, print)
    run.checkpoint("stage", {"epochs": 1, "weights": torch.rand(40)})
    (path,) = (tmp_path / "work").glob("*.pt")
    whole = path.read_bytes()
    path.write_bytes(whole)
    assert run.restore("stage")
    accepted = [data for data in flips(whole, 3000) if storage.unseal(data) is not None]
    accepted += [data for data in flips(whole[-80:], 640) if storage.unseal(whole[:-80] + data) is not None]
    assert not accepted
    sentence = (
        rf"^can't read {re.escape(str(path))}: it is damaged, incomplete, or not a file of this release; {REMEDY}$"
    )
    old = old_format({"ingredients": {}, "state": {}}, tmp_path / "old.pt")
    for data in (*flips(whole, 30), *odd(whole), old):
        path.write_bytes(data)
        with pytest.raises(TaskError, match=sentence):
            run.restore("stage")
    path.unlink()
    path.mkdir()
    with pytest.raises(TaskError, match=sentence):
        run.restore("stage")


def test_a_checkpoint_under_another_name_is_refused(laboratory: Laboratory, tmp_path: Path) -> None:
    run = CellRun(laboratory.cells()[0], tmp_path, CPU, print)
    run.checkpoint("first", {"epochs": 1})
    for content in (run._file("first").read_bytes(), None):
        if content is None:
            storage.save_tensors(run._file("second"), {"weights": torch.ones(2)})
        else:
            run._file("second").write_bytes(content)
        with pytest.raises(DamagedFile, match=rf"is not a checkpoint of 'second': {REMEDY}"):
            run.restore("second")


def test_an_unreadable_file_is_not_called_damaged(laboratory: Laboratory, tmp_path: Path, monkeypatch: Any) -> None:
    """Too many open files, or a permission: the file may be fine, and nothing says to give it up."""
    run = CellRun(laboratory.cells()[0], tmp_path, CPU, print)
    run.checkpoint("stage", {"epochs": 1})

    def fails(path: Path) -> bytes:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(TaskError, match=r"can't read .*\.pt: Too many open files$") as caught:
        run.restore("stage")
    assert not isinstance(caught.value, DamagedFile)


@given(st.binary(max_size=300))
def test_what_is_sealed_is_read_and_nothing_else(data: bytes) -> None:
    assert storage.unseal(storage.seal(data)) == data
    assert storage.unseal(data) is None


def test_any_changed_bit_of_the_seconds_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "seconds-0"
    for seconds in (0.0, 0.431, 1234.5, 1e9):
        text = storage.seal(f"{seconds:.3f}".encode())
        file.write_bytes(text)
        assert Clock(file).seconds() == pytest.approx(seconds, abs=0.5)
        for data in flips(text, 8 * len(text)):
            file.write_bytes(data)
            with pytest.raises(DamagedFile, match=rf"seconds-0 does not hold the seconds .*: {REMEDY}"):
                Clock(file)
    for wrong in (b"", b"1000.0", b"nan", b"\xff"):
        file.write_bytes(wrong)
        with pytest.raises(DamagedFile, match="seconds-0 does not hold the seconds"):
            Clock(file)


def work_of(laboratory: Laboratory) -> Path:
    """The folder of the cell's work after a failure at its second point."""
    laboratory.configure({"epochs": 1})
    laboratory.patch.setenv("TINY", "fail")
    laboratory.run()
    laboratory.patch.delenv("TINY")
    (work,) = (laboratory.results / WORK).glob("*/")
    return work


@pytest.mark.parametrize("name", ["seconds", "scores", "log", "checkpoint"])
@pytest.mark.parametrize("harm", ["empty", "bytes", "folder"])
def test_odd_files_of_a_cell_in_progress_are_a_sentence_and_fresh_helps(
    laboratory: Laboratory, name: str, harm: str
) -> None:
    """An empty log, or one with other bytes, is gone on with."""
    work = work_of(laboratory)
    fingerprint = laboratory.cells()[0].fingerprint()
    path = next(work.glob("*.pt")) if name == "checkpoint" else work / f"{name}-{fingerprint}"
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    path.unlink(missing_ok=True)
    if harm == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"" if harm == "empty" else b"\xff\x00odd")
    outcomes, said = laboratory.run()
    fine = (name == "log" and harm != "folder") or (name == "scores" and harm == "folder")
    assert outcomes == ["complete" if fine else "failed"]
    if not fine:
        assert str(path) in said[-1] and said[-1].endswith(REMEDY) and "Traceback" not in said[-1]
        assert laboratory.run(fresh=True)[0] == ["complete"]
    whole = laboratory.folder / "whole"
    laboratory.run(whole)
    assert laboratory.files("p*.rbn") == laboratory.files("p*.rbn", whole)
    assert laboratory.files("p*.items") == laboratory.files("p*.items", whole)


def test_damaged_scores_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flips, and scores of another shard: the sums and the values of the items are always those of the network."""
    monkeypatch.setattr(shards, "SHARD", 1)

    class Test:
        items, example = 70, torch.zeros(1)

        def scores(self, network: nn.Module, part: range) -> dict[str, torch.Tensor]:
            return {"top-1": torch.arange(part.start, part.stop) % 3 == 0}

    def scored() -> Sums:
        return shards.scored(nn.Flatten(), Test(), 0, 1, tmp_path, "artefact")["top-1"]

    metric = tasks.get("digits").METRICS[0]
    assert scored() == Sums(70, 24, 24)
    first, second = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_size)[::-1]
    whole = first.read_bytes()
    for data in (*flips(whole, 200), *odd(whole), second.read_bytes(), old_format({"top-1": torch.ones(64)}, first)):
        first.write_bytes(data)
        with pytest.raises(DamagedFile, match="does not hold the scores that were just written: run again"):
            shards.noted_items(tmp_path, "artefact", metric, 70, CPU)
        assert scored() == Sums(70, 24, 24) and first.read_bytes() != data
        assert torch.equal(shards.noted_items(tmp_path, "artefact", metric, 70, CPU), torch.arange(70) % 3 == 0)


def test_a_damaged_reference_is_trained_again_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = dict(tasks.load("digits", "digits_cnn").reference().state_dict())
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    trainings: list[str] = []

    def trains(network: nn.Module, *_: Any) -> None:
        trainings.append("")
        network.load_state_dict(tensors)

    monkeypatch.setattr(digits, "fit", trains)
    tasks.load("digits", "digits_cnn").reference()
    path = digits._cached("digits_cnn")
    whole = path.read_bytes()
    assert len(trainings) == 1
    tasks.load("digits", "digits_cnn").reference()
    assert len(trainings) == 1
    wrong = [*flips(whole, 40), *odd(whole), old_format(tensors, tmp_path / "old")]
    for other in ({"state": 3}, {name: t for name, t in tensors.items() if "bias" not in name}):
        storage.save_tensors(tmp_path / "other", other)
        wrong.append((tmp_path / "other").read_bytes())
    for count, data in enumerate(wrong, 2):
        path.write_bytes(data)
        assert digits.cached_reference("digits_cnn") is None
        found = tasks.load("digits", "digits_cnn").reference().state_dict()
        assert len(trainings) == count and all(torch.equal(found[name], tensors[name]) for name in tensors)
        assert path.read_bytes() == whole


def test_a_damaged_speed_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(speed, "_measured", lambda *_: {"forward": 5000.0, "training": 300.0})
    expected = speed.speed("digits", "digits_cnn", CPU)
    (place,) = (tmp_path / "speeds").iterdir()
    whole = place.read_bytes()
    for data in (
        *flips(whole, 100),
        b"",
        b"{}",
        b'{"forward": NaN}',
        json.dumps({"forward": 1, "training": 1}).encode(),
    ):
        place.write_bytes(data)
        assert speed.speed("digits", "digits_cnn", CPU) == expected and place.read_bytes() == whole


@pytest.mark.parametrize("repaired", [True, False])
def test_a_download_that_was_damaged_in_the_cache_is_never_used(
    repaired: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked whenever it is used: fetched again, or a sentence."""
    mirror, cache = tmp_path / "mirror", tmp_path / "cache"
    mirror.mkdir()
    network = networks.build("cifar_resnet", {"depth": 20})
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state}, mirror / "small.th")
    digest = hashlib.sha256((mirror / "small.th").read_bytes()).hexdigest()
    file = RemoteFile("small.th", "", f"sha256:{digest}")
    monkeypatch.setenv("RATEBENCH_CACHE", str(cache))
    monkeypatch.setenv("RATEBENCH_MIRROR", str(mirror))
    monkeypatch.setitem(cifar10.NETWORKS, "resnet20", cifar10.Reference("cifar_resnet", {"depth": 20}, file))
    expected = tasks.load("cifar10", "resnet20").reference().state_dict()
    whole = (cache / "small.th").read_bytes()
    if not repaired:
        (mirror / "small.th").unlink()
    for data in flips(whole, 8):
        (cache / "small.th").write_bytes(data)
        task = tasks.load("cifar10", "resnet20")
        if repaired:
            assert all(torch.equal(tensor, expected[name]) for name, tensor in task.reference().state_dict().items())
        else:
            with pytest.raises(RateBenchError, match=r"small\.th"):
                task.reference()
