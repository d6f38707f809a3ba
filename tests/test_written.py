"""What is written is what is scored and counted: files that change in between, the order of a write, ratios by hand."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_runner
import torch
from test_runner import InProcess, Laboratory
from torch import nn

from benchmarks import networks, records, storage, tasks
from benchmarks.bitstream import blueprint
from benchmarks.evaluation import measure
from benchmarks.evaluation.messages import Measurement, Wanted
from benchmarks.evaluation.metrics import Sums
from benchmarks.records.rows import aggregate
from benchmarks.running import environment, plan, schedule
from benchmarks.running.recording import record
from benchmarks.training.batchnorm import reestimate
from methods.interface import Compressed, Split

laboratory = test_runner.laboratory


def test_a_file_that_changes_between_writing_and_scoring_is_not_recorded(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another valid file in its place would be scored under this point's name."""

    class Swapped(InProcess):
        def score(self, wanted: Wanted) -> Measurement:
            artefact = Path(wanted.artefact)
            if artefact.name == "p01.rbn":
                artefact.write_bytes(artefact.with_name("p00.rbn").read_bytes())
            return super().score(wanted)

    monkeypatch.setattr(schedule, "Scorer", Swapped)
    (outcome,), _ = laboratory.run()
    (cell,) = laboratory.cells()
    folder = laboratory.results / cell.id
    assert outcome == "failed" and [path.name for path in folder.glob("p*.json")] == ["p00.json"]
    error = records.read_cell(folder / "cell.json").error or ""
    assert error.endswith("p01.rbn is not the file that was written: is another process writing there?")


def test_a_record_has_the_hash_of_the_bytes_that_were_scored(laboratory: Laboratory) -> None:
    assert laboratory.run()[0] == ["complete"]
    for path in laboratory.results.rglob("p*.rbn"):
        known = records.read(path.with_suffix(".json"))
        data = path.read_bytes()
        assert known.provenance.artefact_sha256 == hashlib.sha256(data).hexdigest()
        assert known.rate.file_bytes == len(data) == sum(known.rate.by_role.values())


@pytest.mark.parametrize("existing", [False, True])
def test_content_is_on_the_disk_before_a_file_gets_its_name(
    existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut, a name without its content would be an empty file that looks complete."""
    path, data = tmp_path / "sub" / "p00.rbn", bytes(range(256)) * 100
    if existing:
        storage.write(path, b"old")
    events: list[tuple[str, int, int]] = []
    fsync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        known = os.fstat(descriptor)
        events.append(("fsync", known.st_ino, known.st_size))
        fsync(descriptor)

    def renamed(source: Any, target: Any, **places: Any) -> None:
        known = Path(source).stat()
        events.append((f"name {Path(target).name}", known.st_ino, known.st_size))
        rename(source, target, **places)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "rename", renamed)
    storage.write(path, data)
    monkeypatch.undo()
    inode = path.stat().st_ino
    own = [(kind, size) for kind, number, size in events if number == inode]
    assert own.index(("fsync", len(data))) < own.index(("name p00.rbn", len(data)))
    assert path.read_bytes() == data and [p.name for p in path.parent.iterdir()] == ["p00.rbn"]


class Counted(nn.Module):
    """36 + 4 weights and biases, 4 · 4 values of BatchNorm, 40 + 10 of the classifier: 106 values, 424 bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)


def test_ratios_are_of_all_values_of_the_reference(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    """With BatchNorm and without batch counters, whatever the decoded network has left."""
    digits: Any = tasks.load("digits", "digits_cnn")
    monkeypatch.setattr(networks, "build", lambda *_: Counted())
    task = replace(digits, architecture="counted", arguments={})
    assert (task.reference_values, task.uncompressed_bytes) == (106, 424)
    assert blueprint.values(Counted()) == measure.elements(Counted())[0] == 106
    monkeypatch.setattr(tasks, "load", lambda *_: task)
    monkeypatch.setattr(environment, "commit", lambda: (None, None))
    cell = plan.cells("digits")[0]
    measured = Measurement(
        sha256="a" * 64,
        file_bytes=53,
        by_role={"weights": 53},
        scores={"top-1": Sums(400, 300, 300)},
        elements=50,  # a narrower network
        nonzero=20,
        macs=1,
        decode_s=0.1,
        latency_ms_batch1=1.0,
        latency_ms_batch128=None,
    )
    monkeypatch.setattr(type(cell), "fingerprint", lambda _: "0" * 16)
    made = record(cell, 0, Compressed("counted", {}, (), {"n": 0}), measured, None, 0.1, 0.2, {})
    assert (made.rate.uncompressed_bytes, made.rate.ratio, made.rate.bits_per_weight) == (424, 8.0, 4.0)
    assert (made.counted.elements, made.counted.nonzero, made.metrics["top-1"].value) == (50, 20, 0.75)
    (row,) = aggregate([made])
    assert (row.ratio, row.bits_per_weight, row.nonzero_share) == (8.0, 4.0, 0.4)


def sample(task: Any) -> list[Split]:
    return [task.calibration(n) for n in (7, 60)]


@pytest.mark.parametrize(
    ("name", "network"), [("digits", "digits_cnn"), pytest.param("cifar10", "resnet20", marks=pytest.mark.mirror)]
)
def test_calibration_items_do_not_follow_torchs_own_numbers(name: str, network: str) -> None:
    """Nor do the splits, the random input and the crops on which BatchNorm is measured; nor are these numbers used up."""
    found = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = torch.random.get_rng_state()
            task: Any = replace(tasks.load(name, network))  # type: ignore[type-var]  # a copy, which loads its splits anew
            splits = [task.train, task.validation, *sample(task)]
            again = task.reference()
            reestimate(again, task, 60)
            tensors = [*again.state_dict().values(), tasks.get(name).test(network).example]
            found.append([t for split in splits for t in (split.inputs[:100], split.targets[:100])] + tensors)
            assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    few, many = sample(tasks.load(name, network))
    assert torch.equal(few.inputs, many.inputs[:7]) and len(many.targets.unique()) > 5
