"""Temporary files of killed processes: the next run of the cell removes its own, and git and DVC see none."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import test_runner
from filelock import FileLock
from test_ilsvrc import forked
from test_runner import Laboratory

from benchmarks import fingerprint, storage
from benchmarks.running.state import WORK

laboratory = test_runner.laboratory


def killed_while_writing(path: Path) -> Path:
    """What is left of a process that was killed in the middle of a write."""
    before = set(path.parent.iterdir()) if path.parent.exists() else set()

    def work() -> None:
        storage.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        storage.write(path, b"unfinished")

    _, status = os.waitpid(forked(work), 0)
    assert os.WIFSIGNALED(status)
    (left,) = set(path.parent.iterdir()) - before
    return left


def test_the_next_run_of_a_cell_removes_what_killed_ones_left(laboratory: Laboratory) -> None:
    (cell,) = laboratory.cells()
    folder, work = laboratory.results / cell.id, laboratory.results / WORK / cell.id.replace("/", "--")
    own = [
        folder / "p03.rbn",
        folder / "p00.json",
        folder / "p12.items",
        folder / "cell.json",
        folder / "log.txt",
        work / "0123456789abcdef.pt",
        work / "seconds-0123456789abcdef",
        work / "scores-0123456789abcdef" / "0-3.pt",
    ]
    left = [killed_while_writing(path) for path in own]
    other = killed_while_writing(folder.with_name("another-cell") / "p03.rbn")
    (folder / ".notes.markdown").write_text("of the user")
    (folder / ".p00.json.abcdefghi").write_text("nine characters")
    (folder / ".p00.json.abcdefgh").symlink_to(folder / ".notes.markdown")
    with FileLock(work.with_name(f"{work.name}.lock")):  # another process runs the cell: these are its live files
        assert laboratory.run()[0] == ["busy"]
        assert all(path.exists() for path in left)
    laboratory.patch.setenv("TINY", "fail")  # a cell that completes has no work folder any more
    assert laboratory.run()[0] == ["failed"] and work.is_dir()
    assert not any(path.exists() for path in left)
    kept = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert kept == {".notes.markdown", ".p00.json.abcdefghi", ".p00.json.abcdefgh"} and other.exists()


def test_git_and_dvc_ignore_what_killed_processes_left(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    names = ["results/cifar10/p03.rbn", "results/cifar10/p03.json", "reports/cifar10/index.html", "data/verified.json"]
    strays = [killed_while_writing(tmp_path / name).relative_to(tmp_path) for name in names]
    others = [
        "results/cifar10/p03.json",
        ".pre-commit-config.yaml",
        ".dvcignore",
        ".dvc/config",
        ".ci/run",
        "README.md",
    ]
    for rules in (".gitignore", ".dvcignore"):  # one syntax
        (tmp_path / ".gitignore").write_bytes((fingerprint.ROOT / rules).read_bytes())
        asked = "\n".join([*map(str, strays), *others])
        command = ["git", "check-ignore", "--no-index", "--stdin"]
        done = subprocess.run(command, cwd=tmp_path, input=asked, capture_output=True, text=True)
        assert done.stdout.splitlines() == [str(stray) for stray in strays], rules


@pytest.mark.parametrize("name", ["p03.rbn", ".hidden", "a.b.c"])
def test_a_pattern_of_names_spares_other_files(name: str, tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / name)
    storage.remove_temporaries(tmp_path, r"other|p03")
    assert left.exists()
    storage.remove_temporaries(tmp_path)
    storage.remove_temporaries(tmp_path / "absent")
    assert not left.exists()
