"""The runner with a tiny method: what is recorded is kept, the rest is measured, and no failure stops the others.

`Laboratory` is shared with the other tests: a checkout of its own, with one third-party method found by entry point.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
import torch
import yaml
from filelock import FileLock
from places import TESTS, python_path
from threadpoolctl import threadpool_info, threadpool_limits

import methods
from benchmarks import cli, fingerprint, records, storage, tasks
from benchmarks.evaluation import measure, worker
from benchmarks.evaluation.messages import Measurement, Wanted
from benchmarks.running import params, plan, schedule
from benchmarks.running.cell import Cell
from benchmarks.running.schedule import _in_worker
from benchmarks.running.state import LOG, WORK, state

TINY = '''
"""A method for tests: the network in fp32, scaled a little at each point; TINY in the environment makes it misbehave."""
import os
import time
from dataclasses import dataclass

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw
from benchmarks.training import Recipe, fit
from methods.interface import Card, Compressed

CARD = Card("tiny", "A tiny method", ("N. Body",), "Nowhere", 2026, ("storage",), "reconstruction",
            ("post-training", "short"))


@dataclass(frozen=True)
class Config:
    points: int = 3
    epochs: int = 0

    def operating_points(self, budget):
        return [float(self.epochs), *[0.0] * (self.points - 1)]


def unsupported(task, config):
    return None


def compress(task, config, run):
    network, trouble = task.reference(), os.environ.get("TINY", "")
    if trouble == "slow":
        say = run.progress
        run.progress = lambda message: (say(message), time.sleep(0.5))
    if config.epochs:
        fit(network, task, run, Recipe(config.epochs, 0.01), "train")
    tensors = blueprint.state(network)
    for index in range(config.points):
        if trouble == "die":
            os._exit(1)
        if trouble == "hang" or (index == 1 and trouble == "pause"):
            open(f"hangs-{config.points}", "w").close()
            time.sleep(600)
        if index == 1 and trouble == "fail" and config.points == 3:
            raise ValueError("the tiny method [/gave] up")
        data = [tensor.detach().numpy() * (1 - index / 64) for tensor in tensors.values()]
        yield Compressed(task.architecture, task.arguments, (raw.part(list(tensors), data, "weights"),), {"n": index})
'''
# `ratebench` for a process of its own, without another one that scores.
COMMAND = """
from benchmarks import cli
from test_runner import score_here
score_here()
cli.main()
"""
BUDGETS = {"post-training": {"epochs": 0}, "short": {"epochs": 2.5}, "paper": {"epochs": None}}


class InProcess:
    """Stands for the fresh process where a test is not about it: the same scoring, without the start or the clock."""

    def __init__(self, task: str, network: str, device: torch.device) -> None:
        self.place = (task, network, device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def end(self) -> None:
        pass

    def score(self, wanted: Wanted) -> Measurement:
        return worker.score(wanted, *self.place)


def score_here() -> None:
    """Let this process score what it has written."""
    schedule.Scorer, measure.latency_ms = InProcess, lambda *_: 1.0  # type: ignore[misc,assignment]


def in_worker(*arguments: Any) -> Any:
    """What a worker of several jobs does, with its own scoring."""
    score_here()
    return _in_worker(*arguments)


class Laboratory:
    """A checkout in a folder of its own: params.yaml with the tiny method, and the command in this process or another."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.results, self.patch = folder, folder / "results", monkeypatch
        info = folder / "packages" / "tiny-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[ratebench.methods]\ntiny = tiny\n")
        (info.parent / "tiny.py").write_text(TINY)
        monkeypatch.syspath_prepend(str(info.parent))
        monkeypatch.setenv("PYTHONPATH", python_path(fingerprint.ROOT, info.parent, TESTS))
        monkeypatch.delenv("TINY", raising=False)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(schedule, "Scorer", InProcess)
        monkeypatch.setattr(measure, "latency_ms", lambda *_: 1.0)
        self.forget()
        self.configure()

    def forget(self) -> None:
        """Let this process see code and parameters as a new one would."""
        sys.modules.pop("tiny", None)
        importlib.invalidate_caches()
        methods._locations.cache_clear()
        fingerprint.forget()

    def configure(self, *configs: dict[str, Any], **changes: Any) -> None:
        """Write params.yaml with these configurations of the tiny method; keywords replace whole entries."""
        suite = {"task": "digits", "networks": ["digits_cnn"], "methods": ["tiny"], "seeds": [0]}
        chosen = {"post-training": {"tiny": list(configs)}} if configs else {}
        content = {"digits": suite, "budgets": BUDGETS, "configs": chosen} | changes
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content))
        params._params.cache_clear()

    def cells(self) -> list[Cell]:
        return plan.cells("digits")

    def run(self, results: Path | None = None, fresh: bool = False) -> tuple[list[str], list[str]]:
        """(outcomes, lines said) of all cells, run in this process whether they are recorded or not."""
        said: list[str] = []
        ended = schedule.run(self.cells(), results or self.results, said.append, fresh=fresh)
        return [outcome for _, outcome in ended], said

    def ratebench(self, *arguments: str) -> int:
        """The command in this process; its exit status."""
        self.patch.setattr(sys, "argv", ["ratebench", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    @contextlib.contextmanager
    def start(self, *arguments: str, trouble: str = "") -> Iterator[subprocess.Popen[str]]:
        """The command in a process group of its own, which is killed in the end."""
        command = [sys.executable, "-c", COMMAND, *arguments]
        environment = os.environ | {"TINY": trouble, "OMP_NUM_THREADS": "1"}
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
        # A shell starts background jobs, and so perhaps these tests, with Ctrl-C ignored; the command must not inherit that.
        options["preexec_fn"] = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(command, env=environment, text=True, **options) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def files(self, pattern: str, results: Path | None = None) -> dict[str, bytes]:
        results = results or self.results
        return {str(p.relative_to(results)): p.read_bytes() for p in sorted(results.glob(f"digits/*/*/*/{pattern}"))}


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait for something that a process does; fails with its complaint if it ends before."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laboratory]:
    yield Laboratory(tmp_path, monkeypatch)
    monkeypatch.undo()
    methods._locations.cache_clear()
    params._params.cache_clear()


@pytest.mark.parametrize("imported", [False, True])
def test_a_network_that_a_method_writes_is_code_that_it_depends_on(laboratory: Laboratory, imported: bool) -> None:
    """Otherwise a record would stay valid while its network changes."""
    file = laboratory.folder / "packages" / "tiny.py"
    text = file.read_text().replace("Compressed(task.architecture,", 'Compressed("_".join(["cifar", "resnet"]),')
    file.write_text(
        text.replace("import time\n", "import time\nfrom benchmarks.networks import cifar_resnet\n")
        if imported
        else text
    )
    laboratory.forget()
    assert laboratory.run()[0] == ["failed"]
    error = records.read_cell(laboratory.results / laboratory.cells()[0].id / "cell.json").error or ""
    sentence = "tiny writes the network 'cifar_resnet', on whose code its records would not depend: import benchmarks.networks."
    assert (sentence in error) is not imported  # then the arguments are wrong


def test_second_run_changes_nothing(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    assert laboratory.ratebench("run", "digits") == 0
    files = [path for path in laboratory.results.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"p00.json", "p00.rbn", "p00.items", "p02.json", "p02.rbn", "cell.json"}
    before = {path: path.stat().st_mtime_ns for path in files}
    assert laboratory.ratebench("run", "digits") == 0
    assert "0 to run" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in laboratory.results.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("harm", ["missing", "cut in half", "of other code"])
def test_only_points_without_a_valid_record_are_measured_again(laboratory: Laboratory, harm: str) -> None:
    laboratory.run()
    paths = records.paths(laboratory.results, "digits")
    before, content = [path.stat().st_mtime_ns for path in paths], paths[1].read_text()
    if harm == "missing":
        paths[1].unlink()
    else:
        stale = re.sub('"fingerprint": "[0-9a-f]+"', '"fingerprint": "0"', content)
        paths[1].write_text(stale if harm == "of other code" else content[: len(content) // 2])
    assert state(laboratory.cells()[0], laboratory.results) is None
    assert laboratory.ratebench("run", "digits") == 0
    after = [path.stat().st_mtime_ns for path in paths]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    assert json.loads(paths[1].read_text())["rate"] == json.loads(content)["rate"]


def test_a_change_of_the_methods_code_measures_all_points_again(laboratory: Laboratory) -> None:
    laboratory.run()
    (laboratory.folder / "packages" / "tiny.py").write_text(TINY.replace("index / 64", "index / 32.0"))
    laboratory.forget()
    assert state(laboratory.cells()[0], laboratory.results) is None
    before = laboratory.files("p*.rbn")
    laboratory.run()
    changed = [before[name] != data for name, data in laboratory.files("p*.rbn").items()]
    assert changed == [False, True, True] and state(laboratory.cells()[0], laboratory.results)


def test_points_of_an_older_longer_curve_are_removed(laboratory: Laboratory) -> None:
    laboratory.run()
    folder = laboratory.results / laboratory.cells()[0].id
    known = records.read(folder / "p02.json")
    records.write(folder / "p07.json", msgspec.structs.replace(known, id=known.id.replace("p02", "p07"), index=7))
    for old in ("p07.rbn", "p07.items"):
        (folder / old).write_bytes(b"old")
    (folder / "p00.json").unlink()
    (folder / "plot.png").write_bytes(b"somebody's own")
    laboratory.run()
    points = {f"p0{index}.{kind}" for index in range(3) for kind in ("json", "rbn", "items")}
    assert {path.name for path in folder.iterdir()} == points | {"cell.json", "log.txt", "plot.png"}


def test_a_failing_method_is_recorded_and_the_other_cells_go_on(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.configure({}, {"points": 1})
    laboratory.patch.setenv("TINY", "fail")
    assert laboratory.ratebench("run", "digits", "--all-configs") == 1
    shown = capsys.readouterr()
    assert "1 of 2 cells failed" in shown.err and "ValueError: the tiny method [/gave] up" in shown.out
    failed, complete = (state(cell, laboratory.results) for cell in laboratory.cells())
    assert failed and failed.status == "failed" and failed.error == "ValueError: the tiny method [/gave] up"
    assert failed.points == 1 and complete and complete.status == "complete"
    assert laboratory.ratebench("plan", "digits") == 0
    assert "[/gave]" in capsys.readouterr().out
    laboratory.patch.delenv("TINY")
    assert laboratory.ratebench("run", "digits", "--all-configs") == 0
    assert "2 cells: 1 to run" in capsys.readouterr().out


def test_a_cell_that_another_process_finished_meanwhile_is_not_run_again(laboratory: Laboratory) -> None:
    laboratory.run()
    outcomes, said = laboratory.run()
    assert outcomes == ["complete"] and not said


def test_cells_of_a_network_with_a_dot_in_its_name_have_locks_of_their_own(laboratory: Laboratory) -> None:
    trained = tasks.load("digits", "digits_cnn").reference().state_dict()
    laboratory.patch.setattr("benchmarks.tasks.digits._train", lambda task: trained)
    laboratory.patch.setitem(tasks.get("digits").NETWORKS, "cnn_0.75", ("digits_cnn", {"width": 16}))
    suite = {"task": "digits", "networks": ["cnn_0.75"], "methods": ["tiny"], "seeds": [0]}
    laboratory.configure({"points": 1}, {"points": 2}, digits=suite)
    (laboratory.results / WORK).mkdir(parents=True)
    held = laboratory.cells()[0].id.replace("/", "--")
    with FileLock(laboratory.results / WORK / f"{held}.lock"):
        assert laboratory.run()[0] == ["busy", "complete"]
    assert not list((laboratory.results / WORK).glob("*/"))


def test_a_cell_in_progress_is_left_alone_and_survives_a_kill(
    laboratory: Laboratory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.run(tmp_path / "uninterrupted")
    first = laboratory.results / laboratory.cells()[0].id / "p00.json"
    with laboratory.start("run", "digits", trouble="pause") as process:
        wait_until(first.exists, process)
        measured = first.stat().st_mtime_ns
        assert laboratory.ratebench("run", "digits") == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "another process is running it; skipped here" in shown
        assert "skipped 1 cell that another process is running: run again when it has ended" in shown
        assert len(laboratory.files("*")) == 3 and first.stat().st_mtime_ns == measured
    assert process.returncode == -signal.SIGKILL
    assert laboratory.ratebench("run", "digits") == 0
    assert first.stat().st_mtime_ns == measured
    assert laboratory.files("p*.rbn") == laboratory.files("p*.rbn", tmp_path / "uninterrupted")
    assert state(laboratory.cells()[0], laboratory.results)


def test_seconds_of_a_process_that_was_killed_count(laboratory: Laboratory) -> None:
    laboratory.configure({"epochs": 1, "points": 2})
    with laboratory.start("run", "digits", trouble="hang") as process:  # trained, but without a point
        wait_until((laboratory.folder / "hangs-2").exists, process)
    (noted,) = (laboratory.results / WORK).rglob("seconds-*")
    assert float(storage.unseal(noted.read_bytes()) or 0) > 0
    noted.write_bytes(storage.seal(b"1000.0"))
    laboratory.run()
    folder = laboratory.results / laboratory.cells()[0].id
    first, second = (records.read(folder / f"p0{index}.json").wall_s for index in range(2))
    assert first > 1000 and second < 100
    assert records.read_cell(folder / "cell.json").wall_s == pytest.approx(first + second, abs=0.01)


def test_what_a_run_says_is_kept_beside_its_records(laboratory: Laboratory) -> None:
    laboratory.configure({"epochs": 1, "points": 2}, {})
    laboratory.patch.setenv("TINY", "fail")
    assert laboratory.run()[0] == ["complete", "failed"]
    trained, failed = ((laboratory.results / cell.id / LOG).read_text() for cell in laboratory.cells())
    assert re.fullmatch(r"( *\d+\.\d s  .+\n){3}", trained) and "train: epoch 1/1, loss" in trained
    assert len(failed.splitlines()) == 1 and failed.endswith(" s  point 0 {'n': 0}\n")  # why it failed is in cell.json
    laboratory.patch.delenv("TINY")
    laboratory.run()
    goes_on = (laboratory.results / laboratory.cells()[1].id / LOG).read_text()
    assert goes_on.startswith(failed) and len(goes_on.splitlines()) == 4


def test_a_cell_has_as_many_threads_as_its_record_says(laboratory: Laboratory) -> None:
    """Linear algebra outside of torch, too."""
    threadpool_limits(2, "blas")
    torch.set_num_threads(1)
    laboratory.configure({"points": 1})
    laboratory.run()
    found = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert found and set(found) == {1}
    path = laboratory.results / laboratory.cells()[0].id / "p00.json"
    assert records.read(path).speed.threads == 1
