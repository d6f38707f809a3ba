"""The ids of snapshots, and the commits that have them."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from invented import SUITE, made, reference, several, store, timed

from benchmarks import cli
from benchmarks import records as recorded
from benchmarks.errors import RateBenchError
from benchmarks.records import compare, files, history, latency
from benchmarks.records.schema import Record
from benchmarks.records.snapshot import digest, snapshot


def test_a_new_field_of_the_schema_changes_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = store(tmp_path, several())
    before = snapshot(results, SUITE)
    options: Any = {"bases": (Record,), "frozen": True, "kw_only": True, "forbid_unknown_fields": True}
    longer = msgspec.defstruct("Record", [("new", int | None, None)], **options)
    monkeypatch.setattr(files, "Record", longer)
    assert {type(r) for r in recorded.load(results, SUITE)} == {longer}
    assert snapshot(results, SUITE) == before


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values in plain data that are neither dicts nor lists with something in them."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner or not value:
        yield path
    for key, one in inner:
        yield from leaves(one, (*path, key))


def test_every_value_counts() -> None:
    plain = msgspec.to_builtins(made(point={"layers": [1, 2]}, notes={"a": {"b": 2.5, "c": None}}))
    known, paths = digest(json.dumps(plain).encode()), list(leaves(plain))
    assert len(paths) > 50
    for path in paths:
        changed = copy.deepcopy(plain)
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        old = holder[path[-1]]
        holder[path[-1]] = old + 1 if isinstance(old, int | float) else f"{old}x"
        assert digest(json.dumps(changed).encode()) != known, path
        del holder[path[-1]]
        assert digest(json.dumps(changed).encode()) != known, path


def test_formatting_does_not_count(tmp_path: Path) -> None:
    results = store(tmp_path, several())
    known = snapshot(results, SUITE)
    assert len(known) == 12 and int(known, 16)
    (results / SUITE / "net" / "notes.json").write_text("{}")
    for path in recorded.paths(results, SUITE):
        plain = json.loads(path.read_bytes())
        turned = dict(reversed(plain.items()))
        path.write_bytes(json.dumps(turned, indent=3, ensure_ascii=True).replace("\n", "\r\n").encode())
    assert snapshot(results, SUITE) == known
    shutil.rmtree(recorded.paths(results, SUITE)[0].parent)
    assert snapshot(results, SUITE) != known


def test_values_of_single_items_count(commit: Callable[..., str], tmp_path: Path) -> None:
    """Ranks and claims depend on them: the same number of right items in another order is another snapshot."""
    results, seen = tmp_path / "checkout" / "results", []
    for values in (None, b"\x0f", b"\xf0"):
        records = [made(), reference()]
        store(tmp_path / "records", records)
        if values is not None:
            (tmp_path / "records" / f"{records[0].id}.items").write_bytes(values)
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(tmp_path / "records", results)
        git(results, "add", "--all")
        git(results, "commit", "-qm", "records")
        seen.append((snapshot(results, SUITE), git(results, "rev-parse", "HEAD")))
    latency.write(results, timed("a" * 64))  # latencies count, too
    git(results, "add", "--all")
    git(results, "commit", "-qm", "latencies")
    seen.append((snapshot(results, SUITE), git(results, "rev-parse", "HEAD")))
    assert len({name for name, _ in seen}) == 4
    assert [history.commit(results, SUITE, name) for name, _ in seen] == [head for _, head in seen]


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def commit(tmp_path: Path) -> Callable[..., str]:
    """Commits records as the whole of `checkout/results`; returns the commit."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    git(checkout, "init", "-q", "-b", "main")

    def committed(records: list[Record]) -> str:
        shutil.rmtree(checkout / "results", ignore_errors=True)
        store(checkout / "results", records)
        git(checkout, "add", "--all")
        git(checkout, "commit", "-qm", "records", "--allow-empty")
        return git(checkout, "rev-parse", "HEAD")

    return committed


def test_the_first_commit_of_a_snapshot_is_found(commit: Callable[..., str], tmp_path: Path) -> None:
    results = tmp_path / "checkout" / "results"
    first = commit([made()])
    one = snapshot(results, SUITE)
    second = commit([made(), made(seed=1)])
    two = snapshot(results, SUITE)
    third = commit([made(), made(seed=1), made(suite="second")])
    other = snapshot(results, "second")
    commit([made()])  # the first records again
    git(results.parent, "checkout", "-qb", "side", third)
    side = commit([made("gamma")])
    gamma = snapshot(results, SUITE)
    git(results.parent, "checkout", "-q", "main")
    git(results.parent, "merge", "-q", "-s", "ours", "side")  # has none of the other branch's records
    wanted = {one: (SUITE, first), two: (SUITE, second), other: ("second", third), gamma: (SUITE, side)}
    for name, place in wanted.items():
        found = history.find(results, name)
        assert (found.suite, found.commit, found.id) == (*place, name)
        assert history.find(results, name[:6]) == found
        assert history.commit(results, place[0], name) == place[1]
    assert history.commit(results, "second", one) is None


def test_commits_are_found_for_a_prefix_of_one_snapshot_only(
    commit: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "checkout" / "results"
    commit([made()])
    commit([made(), made(seed=1)])
    for wrong in ("abc", "g" * 12, "0" * 13, ""):
        with pytest.raises(RateBenchError, match="is not a snapshot id: give its 12 hexadecimal digits"):
            history.find(results, wrong)
    with pytest.raises(
        RateBenchError, match=r"no commit of this checkout has .* 'ffffffff' in .*: update it with `git pull`"
    ):
        history.find(results, "ffffffff")
    monkeypatch.setattr(history, "combined", lambda digests: f"abcdabcd000{len(digests)}")
    with pytest.raises(RateBenchError, match=r"beginning of 2 snapshots \(abcdabcd0001, abcdabcd0002\): give more"):
        history.find(results, "abcdabcd")
    assert history.find(results, "abcdabcd0002").id == "abcdabcd0002"


def test_without_the_history_the_sentence_says_so(
    commit: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    commit([made()])
    old = snapshot(checkout / "results", SUITE)
    commit([made(), made(seed=1)])
    git(tmp_path, "clone", "-q", "--depth", "1", checkout.as_uri(), "shallow")
    results = tmp_path / "shallow" / "results"
    with pytest.raises(RateBenchError, match="only a part of the history: get the rest with `git fetch --unshallow`"):
        history.find(results, old)
    new = snapshot(results, SUITE)
    assert history.find(results, new).id == new  # its one commit has it, but may not be the first
    assert history.commit(results, SUITE, new) is None
    store(tmp_path / "results", several())
    nowhere = pytest.raises(history.NoHistory, match="has no git history to search: run this in a git clone")
    with nowhere:
        history.find(tmp_path / "results", new)
    assert history.commit(tmp_path / "results", SUITE, new) is None
    monkeypatch.setenv("PATH", "")
    with nowhere:
        history.find(checkout / "results", new)


def test_the_command_prints_what_git_checks_out(
    commit: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = commit([made()])
    results = tmp_path / "checkout" / "results"
    name = snapshot(results, SUITE)
    commit([made(), made(seed=1)])
    monkeypatch.chdir(results.parent)
    monkeypatch.setattr(sys, "argv", ["ratebench", "snapshot", name])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    said = capsys.readouterr()
    assert said.out == f"{first}\n" and f"suite {SUITE}" in said.err
    found = compare.compare(SUITE, name, "results")
    assert found.before == name and len(found.new) == 1 and found.same == 1
    with pytest.raises(RateBenchError, match="no commit of this checkout has records of the snapshot 'ffffffffffff'"):
        compare.compare(SUITE, "f" * 12, "results")


def test_links_and_other_files_do_not_count(commit: Callable[..., str], tmp_path: Path) -> None:
    commit([made()])
    checkout = tmp_path / "checkout"
    cell = recorded.paths(checkout / "results", SUITE)[0].parent
    (cell / "p01.json").symlink_to("p00.json")
    (cell / "p00.json.bak").write_text("{")
    (cell.parent / ".hidden").mkdir()
    shutil.copy(cell / "p00.json", cell.parent / ".hidden" / "p00.json")
    git(checkout, "add", "--all")
    git(checkout, "commit", "-qm", "more")
    assert len(list(history.snapshots(checkout / "results"))) == 1
    (cell / "p02.json").write_text("{")  # this commit has a new record, too, but no report can be made of it
    store(checkout / "results", [made("beta")])
    git(checkout, "add", "--all")
    git(checkout, "commit", "-qm", "damaged")
    assert len(list(history.snapshots(checkout / "results"))) == 1
