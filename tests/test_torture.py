"""The torture session's own detectors: what a decoder or a run does wrong is counted, and an interruption loses nothing."""

from __future__ import annotations

import random
import textwrap
from pathlib import Path
from typing import Any

import pytest
from goldens.mutations import resealed
from goldens.samples import FOLDER
from places import python_path
from torture import cells, full, fuzz, kills
from torture.journal import Journal
from torture.judge import Judge

DECODER = """
import os, signal, time
from benchmarks.errors import BitstreamError

def decode(data):
    what = data[:1]
    if what == b"h":
        time.sleep(1000)
    if what == b"c":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == b"m":
        bytearray(b"x") * (600 * 2**20)
    if what == b"l":
        bytearray(b"x") * (3 * 2**30)
    if what == b"s":
        while time.process_time() < 0.5:
            pass
    if what == b"e":
        raise KeyError("escaped")
    if what == b"r":
        raise BitstreamError("refused")
    print("a library may print")
"""


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "bad_decoder.py").write_text(textwrap.dedent(DECODER))
    monkeypatch.setenv("PYTHONPATH", python_path(tmp_path))
    return "bad_decoder:decode"


def test_what_a_decoder_does_wrong_is_noticed_and_the_next_file_is_judged(decoder: str) -> None:
    files = {b"d": "decoded", b"r": "refused", b"e": "escaped", b"c": "crash", b"m": "above 512 MiB", b"l": "escaped"}
    with Judge(decoder, growth=2**30) as judge:
        for data, expected in files.items():
            found = judge.judge(data)
            assert fuzz.bad(found) == (None if expected in ("decoded", "refused") else expected), found
            assert judge.judge(b"d")["outcome"] == "decoded"
    assert "MemoryError" in found["outcome"]
    with Judge(decoder, hang=1.0) as judge:
        assert judge.judge(b"h") == {"outcome": "hang"}


def test_a_slow_decoder_is_noticed(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.05)
    with Judge(decoder) as judge:
        assert fuzz.bad(judge.judge(b"s")) == "above 10 s"
        assert fuzz.bad(judge.judge(b"d")) is None


class Counted:
    """A judge in this process that stops after some files."""

    def __init__(self, most: int) -> None:
        self.seen: list[bytes] = []
        self.most = most

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def judge(self, data: bytes) -> dict[str, Any]:
        if len(self.seen) == self.most:
            raise KeyboardInterrupt
        self.seen.append(data)
        return {"outcome": "refused", "memory": len(self.seen), "seconds": 0.5}


def test_an_interrupted_session_goes_on_where_it_was(tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in FOLDER.glob("*.rbn")}
    whole, first, second = Counted(99), Counted(7), Counted(99)
    fuzz.fuzz(files, 20, Journal(tmp_path / "whole"), print, judge=lambda: whole)  # type: ignore[arg-type,return-value]
    path = tmp_path / "journal"
    with pytest.raises(KeyboardInterrupt):
        fuzz.fuzz(files, 20, Journal(path), print, judge=lambda: first)  # type: ignore[arg-type,return-value]
    with path.open("ab") as file:
        file.write(b'{"key": "fuzz 7", "outc')  # the kill came while a line was written
    journal = Journal(path)
    fuzz.fuzz(files, 20, journal, print, judge=lambda: second)  # type: ignore[arg-type,return-value]
    assert first.seen + second.seen == whole.seen and len(whole.seen) == 20 == len(fuzz.tried(journal))
    assert fuzz.summary(Journal(path)) == "20 refused; at most 0 MiB and 0.5 s"


def test_files_that_are_left_over_missing_or_other_are_differences(tmp_path: Path) -> None:
    for name, data in (("a/p00.rbn", b"1"), ("a/p00.json", b"1"), ("a/p01.rbn", b"1")):
        for run in ("one", "two"):
            (tmp_path / run / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / run / name).write_bytes(data)
    (tmp_path / "two/a/p00.json").write_bytes(b"other times")
    one = cells.content(tmp_path / "one")
    assert cells.differences(one, cells.content(tmp_path / "two")) == []
    (tmp_path / "two/a/p00.rbn").write_bytes(b"2")
    (tmp_path / "two/a/p01.rbn").unlink()
    (tmp_path / "two/a/.p01.rbn.x3f").write_bytes(b"")
    assert cells.differences(one, cells.content(tmp_path / "two")) == [
        "a/p01.rbn is missing",
        "a/.p01.rbn.x3f is left over",
        "a/p00.rbn differs",
    ]


def test_mutations_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    data = (FOLDER / "uniform.rbn").read_bytes()
    made = [resealed(data, random.Random(i)) for i in range(30)]
    assert made == [resealed(data, random.Random(i)) for i in range(30)]
    assert len(set(made)) > 20 and data not in made[:1]


class Sleeper:
    """A run of some steps, in place of a cell: each step writes one file, and a run goes on after those that are there."""

    def __init__(self, steps: int) -> None:
        self.steps, self.last, self.starts = steps, 0, 0

    def start(self, results: Path, method: str, log: Path) -> Path:
        self.starts += 1
        return results

    def kill(self, process: Path) -> bool:
        process.mkdir(parents=True, exist_ok=True)
        (process / f"{len(list(process.iterdir()))}.rbn").write_bytes(b"")
        return len(list(process.iterdir())) < self.steps

    def finish(self, results: Path, method: str, log: Path) -> tuple[int, float]:
        results.mkdir(parents=True, exist_ok=True)
        for step in range(self.steps):
            (results / f"{step}.rbn").write_bytes(b"")
        return self.last, 0.0


def test_kills_are_made_until_there_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Sleeper(3)  # ends before the third kill
    for name in ("start", "kill", "finish"):
        monkeypatch.setattr(cells, name, getattr(run, name))
    journal = Journal(tmp_path / "journal")
    kills.kills(5, ["a", "b"], tmp_path / "runs", journal, print)
    assert kills.summary(journal) == (6, []) and list(journal.entries) == ["kills 0", "kills 1", "kills 2"]
    started = run.starts
    kills.kills(5, ["a", "b"], tmp_path / "runs", Journal(tmp_path / "journal"), print)
    assert run.starts == started
    stray = tmp_path / "runs" / "killed" / ".0.rbn.x3f"

    def leaves_a_file(process: Path) -> bool:
        process.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"")
        return True

    monkeypatch.setattr(cells, "kill", leaves_a_file)
    kills.kills(7, ["a", "b"], tmp_path / "runs", journal, print)
    assert kills.summary(journal) == (11, [".0.rbn.x3f is left over"])


def test_runs_that_end_before_they_are_killed_are_killed_earlier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, slept = Sleeper(1), []
    for name in ("start", "kill"):
        monkeypatch.setattr(cells, name, getattr(run, name))
    monkeypatch.setattr(cells, "finish", lambda *own: (run.finish(*own)[0], 100.0))
    monkeypatch.setattr(
        kills.time, "sleep", lambda seconds: slept.append(seconds) or len(slept) < 20 or run.__init__(9)
    )  # type: ignore[func-returns-value,misc]
    kills.kills(1, ["a"], tmp_path / "runs", Journal(tmp_path / "journal"), print)
    assert len(slept) >= 20 and max(slept[15:]) < 100 * 0.7**15 < max(slept[:5])


def test_a_run_on_a_full_disk_has_to_say_so_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, results = tmp_path / "log", tmp_path / "results"
    results.mkdir()
    outcomes = iter([(1, "a: can't write b: the disk is full"), (1, "Traceback"), (0, "the disk is full"), (1, "oh")])

    def finish(results: Path, method: str, log: Path) -> tuple[int, float]:
        status, message = next(outcomes)
        log.write_text(message)
        return status, 0.0

    monkeypatch.setattr(cells, "finish", finish)
    assert [len(full._on_a_full_disk(results, "a", said)) for _ in range(4)] == [0, 1, 1, 1]
    outcomes = iter([(1, "the disk is full")])
    (results / "p00.json").write_text('{"schema": 1, "i')
    (results / ".p00.rbn.x3f").write_bytes(b"")
    assert sorted(full._on_a_full_disk(results, "a", said)) == [".p00.rbn.x3f is left over", "p00.json is half-written"]
