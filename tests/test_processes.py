"""Several processes under torchrun train one network as one process would, and gradients of pieces add up to the batch's."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_every_method
import torch
from torch import nn

from benchmarks import record, tasks
from benchmarks.classification import Classification
from benchmarks.errors import RateBenchError
from benchmarks.training import Recipe, fit, processes
from benchmarks.training.loop import augment
from methods.interface import Split

ROOT = Path(__file__).resolve().parent.parent
STEPS, BATCH = 20, 64
# SGD with momentum: 20 steps, each of 64 images, in two pieces of 32 (BatchNorm sees a piece at a time).
SCRIPT = """
import sys, torch
from torch import distributed
import test_processes
from benchmarks.training import processes
processes.begin()
assert processes.count() == 2
network = test_processes.trained()
if processes.rank() == 0:
    torch.save(network.state_dict(), sys.argv[1])
found = [torch.zeros(()) for _ in range(2)]
distributed.all_gather(found, sum(p.double().sum() for p in network.state_dict().values()).float())
assert found[0] == found[1], "processes disagree"
processes.end()
"""


def trained() -> nn.Module:
    torch.set_num_threads(1)
    task: Any = tasks.load("digits", "digits_cnn")
    assert isinstance(task, Classification)
    split, validation = task.train, task.validation
    few = Split(split.images[: STEPS * BATCH // 2], split.labels[: STEPS * BATCH // 2])  # 10 steps an epoch
    task = replace(task, load_splits=lambda: (few, validation), load_state=task.reference().state_dict)
    network: nn.Module = task.reference()
    run = test_every_method.MemoryRun(test_every_method.SHORT)
    fit(network, task, run, Recipe(2.0, 0.05, batch=BATCH), "few")
    return network


def torchrun(*command: str) -> None:
    """Two processes, one thread each."""
    places = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places)), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters after 20 steps; BatchNorm's running means are the first process's and differ."""
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun(str(tmp_path / "script.py"), str(tmp_path / "theirs.pt"))
    theirs = torch.load(tmp_path / "theirs.pt", weights_only=True)
    monkeypatch.setenv(processes.MICRO, str(BATCH // 2))
    ours = dict(trained().named_parameters())
    start = dict(tasks.load("digits", "digits_cnn").reference().named_parameters())
    for name, parameter in ours.items():
        moved = float((parameter - start[name]).detach().abs().max())
        assert float((parameter - theirs[name]).detach().abs().max()) <= 1e-3 * moved, name


def test_pieces_add_up_to_the_batch_where_no_norm_looks_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.normal_(network[1].weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    digits: Any = tasks.load("digits", "digits_cnn")
    states = []
    for micro in ("", "10", "64", "1000"):
        monkeypatch.setenv(processes.MICRO, micro)
        copy = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        copy.load_state_dict(network.state_dict())
        fit(copy, digits, test_every_method.MemoryRun(test_every_method.SHORT), Recipe(1.0, 0.1), "linear")
        states.append(copy.state_dict())
    assert torch.equal(states[0]["1.weight"], states[3]["1.weight"])
    for state in states[1:]:
        torch.testing.assert_close(
            state["1.weight"], states[0]["1.weight"], rtol=1e-2, atol=2e-3
        )  # bf16 where it is fast


@pytest.mark.parametrize(("rank", "count"), [(0, 2), (1, 2), (2, 3)])
def test_a_share_of_a_batch_gets_the_crops_of_the_whole_batch(rank: int, count: int) -> None:
    task: Any = replace(tasks.load("digits", "digits_cnn"), flip=True)  # type: ignore[type-var]
    images = task.train.images[:11]
    whole = augment(images, task, torch.Generator().manual_seed(5))
    own = slice(rank, len(images), count)
    part = augment(images[own], task, torch.Generator().manual_seed(5), len(images), own)
    assert torch.equal(part, whole[own])


@pytest.mark.parametrize(("method", "points"), [("magnitude", (8, 5)), ("l1_filter", (3, 3))])
def test_two_processes_run_cells_as_one_does(method: str, points: tuple[int, int], tmp_path: Path) -> None:
    """The same files and exact counts without training; with it, every point has its record."""
    cells = ["run", "digits", "-m", method, "-n", "digits_cnn"]
    torchrun("-m", "benchmarks.cli", *cells, "--results", str(tmp_path / "two"))
    command = [sys.executable, "-m", "benchmarks.cli", *cells, "--results", str(tmp_path / "one")]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT, check=True)
    one, two = (list(record.load(tmp_path / name, "digits")) for name in ("one", "two"))
    assert len(one) == points[0]
    for alone, together in zip(one, two, strict=True):
        assert alone.provenance.artefact_sha256 == together.provenance.artefact_sha256
        assert (alone.quality.correct, alone.quality.total) == (together.quality.correct, together.quality.total)
        assert together.provenance.command == f"torchrun --nproc-per-node 2 --no-python {alone.provenance.command}"
    torchrun("-m", "benchmarks.cli", *cells, "-b", "short", "-s", "0", "--results", str(tmp_path / "two"))
    trained = [r for r in record.load(tmp_path / "two", "digits") if r.budget == "short"]
    assert len(trained) == points[1] and all(r.quality.total == one[0].quality.total for r in trained)
    assert {r.provenance.processes for r in trained} == {2} and {r.provenance.processes for r in one} == {1}
    assert not any((tmp_path / "two" / ".work").glob("*/"))


def test_what_all_processes_do_alike_is_left_to_torchrun(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="torchrun starts the processes: leave out --jobs and --cluster"):
        torchrun("-m", "benchmarks.cli", "run", "digits", "-j", "2", "--results", str(tmp_path))


@pytest.mark.parametrize("micro", ["0", "-1", "1.5", "many"])
def test_a_number_of_images_has_to_be_one(micro: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.MICRO, micro)
    with pytest.raises(RateBenchError, match=f"RATEBENCH_MICRO is '{micro}': set it to how many images"):
        processes.pieces(10)
