"""The mutants session's own part: the same sample for a seed, what is counted, and survivors without a reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from mutants import run as session

NAMES = [f"benchmarks.records.sense.x_total__mutmut_{number}" for number in range(1, 9)]
METHOD = "benchmarks.storage.xǁFileǁ_read__mutmut_2"


class Mutmut:
    """Stands for the library: it makes the mutants of two files, and all but the listed ones are killed."""

    def __init__(self, root: Path, survivors: list[str]) -> None:
        self.root, self.survivors, self.tried, self.ended = root, survivors, list[str](), list[str]()

    def run(self, *arguments: str) -> None:
        for file, names in {"records/sense.py.meta": NAMES, "storage.py.meta": [METHOD]}.items():
            path = self.root / "mutants" / "benchmarks" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"exit_code_by_key": dict.fromkeys(names)}))
        self.tried += [name for name in arguments if "__mutmut_" in name and name in [*NAMES, METHOD]]

    def __call__(self, *arguments: str) -> str:
        if arguments[0] == "show":
            return "# a comment\n--- a\n+++ b\n@@ -1 +1 @@\n def total():\n-    return 1\n+    return 2\n"
        outcome = {name: "survived" if name in self.survivors else "killed" for name in self.tried}
        outcome |= dict.fromkeys(set(self.ended).intersection(self.tried), "suspicious")
        rest = {name: "not checked" for name in [*NAMES, METHOD] if name not in self.tried}
        return "".join(f"    {name}: {what}\n" for name, what in (outcome | rest).items())


@pytest.fixture
def mutmut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mutmut:
    fake = Mutmut(tmp_path, [])
    (tmp_path / "survivors.toml").write_text("survivor = []\n")
    monkeypatch.setattr(session, "ROOT", tmp_path)
    monkeypatch.setattr(session, "KNOWN", tmp_path / "survivors.toml")
    monkeypatch.setattr(session, "mutmut", fake)
    monkeypatch.setattr(session, "run", fake.run)
    return fake


def start(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    return session.main()


def test_a_seed_draws_one_sample_and_another_adds_to_it(
    mutmut: Mutmut, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(monkeypatch, "--sample", "4", "--seed", "1") == 0
    first = set(mutmut.tried)
    assert len(first) == 4
    assert start(monkeypatch, "--sample", "4", "--seed", "1") == 0
    assert len(mutmut.tried) == 4, "what has been tried was tried again"
    assert start(monkeypatch, "--sample", "4", "--seed", "2", "--package", "benchmarks.records") == 0
    assert len(set(mutmut.tried)) > 4
    tried = [name for name in set(mutmut.tried) if name in NAMES]
    assert f"benchmarks.records: {len(tried)} of {len(tried)} killed" in capsys.readouterr().out


def test_a_survivor_needs_a_reason(
    mutmut: Mutmut, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutmut.survivors = [METHOD]
    assert start(monkeypatch, "--sample", "99") == 1
    said = capsys.readouterr().out
    assert "benchmarks.records: 8 of 8 killed" in said and "benchmarks.storage: 0 of 1 killed" in said
    listed = said[said.index("[[survivor]]") :].replace("reason = ''", "reason = 'Both are right.'")
    assert "where = 'benchmarks.storage.File._read'" in listed and "- return 1\n+ return 2" in listed
    session.KNOWN.write_text(listed, encoding="utf-8")
    assert start(monkeypatch, "--sample", "99") == 0


def test_what_a_busy_machine_ended_counts_for_nothing_and_is_tried_again(
    mutmut: Mutmut, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutmut.ended = [METHOD]
    for tries in (1, 2):
        assert start(monkeypatch, "--sample", "99") == 0
        said = capsys.readouterr().out
        assert "storage" not in said and "1 not decided" in said and mutmut.tried.count(METHOD) == tries
    assert mutmut.tried.count(NAMES[0]) == 1


def test_what_mutmut_said_is_shown_if_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ROOT", tmp_path)
    monkeypatch.setattr(session, "MUTMUT", (sys.executable, "-c", "print('no tests found'); raise SystemExit(3)"))
    with pytest.raises(SystemExit, match=r"mutmut ended with status 3; it said last:\nno tests found"):
        session.run("x")
