"""Copies, renamed folders and files that can't be used: they never count as seeds, and nothing is measured over them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import test_runner
from invented import SUITE, Page, counted, made, store
from test_runner import Laboratory

from benchmarks import records
from benchmarks.errors import DamagedRecord, RecordError
from benchmarks.records import CellState, comparable, items, regular
from benchmarks.records.rows import aggregate
from benchmarks.report import cells, render
from benchmarks.running import schedule
from benchmarks.running.state import LOG, state

laboratory = test_runner.laboratory
COMMANDS = (("show",), ("report",), ("verify",), ("compare", "results"))


def seeds() -> list[records.Record]:
    return [made(seed=seed, index=index, correct=900 + seed) for seed in (0, 1) for index in (0, 1)]


def cell(results: Path) -> Path:
    return (results / f"{made().id}.json").parent


@pytest.mark.parametrize(
    "copied",
    [
        *("p00 (conflicted copy).json", "p00 2.json", "p00.json.sync-conflict-20260101", "p00~.json", ".p00.json"),
        *("p00.sync-conflict-20260101-120000-ABCDEFG.json", "p00 (Copy).json", "pp00.json", "P00.json", "p00.json.bak"),
    ],
)
def test_a_copy_that_is_not_named_like_a_record_is_ignored(tmp_path: Path, copied: str) -> None:
    results = store(tmp_path, seeds())
    other = made(index=0, correct=100)
    (cell(results) / copied).write_bytes(msgspec.json.encode(other))
    (results / SUITE / "net" / "alpha" / ".stversions").mkdir()
    shutil.copytree(cell(results), results / SUITE / "net" / "alpha" / ".stversions" / "x")
    assert records.load(results, SUITE) == sorted(seeds(), key=lambda r: r.id)


def _copied_cell(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name(f"{folder.name} (copy)"))


def _another_seed(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name(folder.name.replace("-s0", "-s7")))


def _renamed_method(folder: Path) -> None:
    folder.parent.rename(folder.parent.with_name("renamed"))


def _renamed_network(folder: Path) -> None:
    folder.parents[1].rename(folder.parents[1].with_name("renamed"))


def _another_point(folder: Path) -> None:
    shutil.copy(folder / "p01.json", folder / "p02.json")


def _longer_number(folder: Path) -> None:
    shutil.copy(folder / "p01.json", folder / "p001.json")


def _linked(folder: Path) -> None:
    folder.with_name(folder.name.replace("-s0", "-s8")).symlink_to(folder, target_is_directory=True)


STRAY = (_copied_cell, _another_seed, _renamed_method, _renamed_network, _another_point, _longer_number, _linked)


@pytest.mark.parametrize("stray", STRAY)
def test_a_record_at_another_place_is_one_sentence_with_both_files(tmp_path: Path, stray: Any) -> None:
    results = store(tmp_path, seeds())
    stray(cell(results))
    with pytest.raises(RecordError, match=r"^\S.*p\d+\.json is the record of .*/p\d\d\.json") as raised:
        records.load(results, SUITE)
    first, second = re.findall(r"/\S[^,]*?\.json", str(raised.value))[:2]
    assert first != second and "\n" not in str(raised.value) and "delete" not in str(raised.value)
    moved = stray in (_renamed_method, _renamed_network)
    assert ("which exists as well" in str(raised.value)) is not moved


@pytest.mark.parametrize("stray", [_another_seed, _renamed_method, _longer_number])
def test_no_command_counts_a_stray_record(
    laboratory: Laboratory, stray: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no run measures over it."""
    laboratory.run()
    stray(laboratory.results / laboratory.cells()[0].id)
    before = {path: path.read_bytes() for path in laboratory.results.rglob("*") if path.is_file()}
    for command, *more in COMMANDS:
        assert laboratory.ratebench(command, "digits", *more) == 1
        assert "is the record of" in " ".join(capsys.readouterr().err.split())
    for command in ("plan", "run"):
        place = {_another_seed: ["--seed", "7"], _longer_number: []}.get(stray)
        if place is not None:
            assert laboratory.ratebench(command, "digits", *place) == 1
            assert "is the record of" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in laboratory.results.rglob("*") if path.is_file()} == before
    assert not (laboratory.folder / "reports").exists()


def _newer(data: bytes) -> bytes:
    return msgspec.json.encode(json.loads(data) | {"schema": records.SCHEMA + 1, "colour": "blue"})


def _unknown(data: bytes) -> bytes:
    return msgspec.json.encode(json.loads(data) | {"colour": "blue"})


def _another_shape(data: bytes) -> bytes:
    return msgspec.json.encode({"colour": "blue"} | json.loads(data) | {"speed": []})


HARMS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "newer": (_newer, r"was written by a newer release of RateBench \(schema 3, this release knows 2\): update"),
    "unknown field": (_unknown, r"newer release of RateBench \(schema 2, this release knows 2, .*`colour`\): update"),
    "unknown field and a list": (_another_shape, r"newer release of RateBench \(schema 2, .*`colour`\): update"),
    "UTF-8 with BOM": (lambda data: b"\xef\xbb\xbf" + data, "is stored as utf-8-sig: save it as UTF-8"),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), "is stored as utf-16: save it as UTF-8"),
    "UTF-16 without BOM": (lambda data: data.decode().encode("utf-16-le"), "is stored as utf-16-le: save it as UTF-8"),
    "UTF-32": (lambda data: data.decode().encode("utf-32"), "is stored as utf-32: save it as UTF-8"),
    "Latin-1": (lambda data: re.sub(rb": null", b': "\xfc"', data), "is stored as latin-1: save it as UTF-8"),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["p01.json", "cell.json"])
def test_a_file_that_may_be_fine_is_never_measured_over(
    laboratory: Laboratory, harm: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where the cell is not complete, or its code has changed."""
    laboratory.run()
    folder = laboratory.results / laboratory.cells()[0].id
    change, sentence = HARMS[harm]
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    if name == "p01.json":
        (folder / "cell.json").unlink()
    held = {path: path.read_bytes() for path in folder.iterdir()}
    for command in ("run", "plan", "show", "report", "verify"):
        assert laboratory.ratebench(command, "digits") == 1
        said = " ".join(capsys.readouterr().err.split())
        assert re.search(sentence, said) and name in said and "delete" not in said
    assert {path: path.read_bytes() for path in folder.iterdir()} == held


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.EACCES, errno.EIO, errno.ENFILE])
def test_an_error_of_the_system_is_no_damage(
    laboratory: Laboratory, number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file or of a folder: it is said as it is, and nothing is measured."""
    laboratory.run()
    folder = laboratory.results / laboratory.cells()[0].id
    before = {path: path.read_bytes() for path in folder.iterdir()}
    opened, scanned = os.open, os.scandir

    def refused(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def called(path: Any, *more: Any, **named: Any) -> Any:
            if str(path).endswith(name):
                raise OSError(number, os.strerror(number), str(path))
            return call(path, *more, **named)

        return called

    for name in ("p01.json", "cell.json", folder.name, "tiny"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refused(opened, name))
            patch.setattr(os, "scandir", refused(scanned, name))
            for command in ("show", "report", "verify", "run", "plan"):
                if name == "tiny" and command == "run":
                    continue  # looks at the cell's own folder alone
                assert laboratory.ratebench(command, "digits") == 1, (name, command)
                said = " ".join(capsys.readouterr().err.split())
                assert "can't read" in said and os.strerror(number) in said and "delete" not in said
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_pipe_in_the_place_of_a_record_does_not_block(tmp_path: Path) -> None:
    results = store(tmp_path, seeds())
    (cell(results) / "p01.json").unlink()
    os.mkfifo(cell(results) / "p01.json")
    with pytest.raises(RecordError, match=r"can't read .*p01\.json: it is no regular file"):
        records.load(results, SUITE)
    (cell(results) / "p00.items").write_bytes(b"0")
    with pytest.raises(RecordError):
        records.load(results, SUITE)


@pytest.mark.parametrize("damage", ["{", "", "\0" * 900, "[]"])
def test_a_damaged_record_says_that_run_measures_it_again(laboratory: Laboratory, damage: str) -> None:
    laboratory.run()
    folder = laboratory.results / laboratory.cells()[0].id
    whole = json.loads((folder / "p01.json").read_text())["rate"]
    for name in ("p01.json", "cell.json"):
        (folder / name).write_text(damage)
        with pytest.raises(
            RecordError, match=rf"{name} is not a valid record \(.*\): restore it .* or `ratebench run`"
        ):
            records.load(laboratory.results, "digits")
        assert state(laboratory.cells()[0], laboratory.results) is None
        assert laboratory.ratebench("plan", "digits") == 0 and laboratory.ratebench("run", "digits") == 0
        assert json.loads((folder / "p01.json").read_text())["rate"] == whole
        assert len(records.load(laboratory.results, "digits")) == 3


def test_the_points_of_a_cell_are_those_that_it_counts(tmp_path: Path) -> None:
    def reason(name: str) -> str:
        with pytest.raises(RecordError) as raised:
            records.load(tmp_path / name, SUITE)
        shutil.rmtree(tmp_path / name)
        return str(raised.value)

    def folder(name: str) -> Path:
        return cell(store(tmp_path / name, [made(index=index) for index in range(3)]))

    (folder("last") / "p02.json").unlink()
    assert "p02.json is missing" in reason("last")
    (folder("first") / "p00.json").unlink()
    assert "p00.json is missing" in reason("first")
    for name in ("p01.json", "cell.json"):
        (folder("unfinished") / name).unlink()
        if name == "p01.json":
            (cell(tmp_path / "unfinished") / "cell.json").unlink()
            assert "p01.json is missing" in reason("unfinished")
    assert len(records.load(tmp_path / "unfinished", SUITE)) == 3  # without the state of the cell
    ended = CellState(records.SCHEMA, made().provenance.fingerprint, "complete", 2, 1.0)
    records.write(folder("more") / "cell.json", ended)
    assert "counts 2 points, but p02.json was measured in the same run" in reason("more")
    records.write(folder("older") / "cell.json", msgspec.structs.replace(ended, fingerprint="f" * 16))
    assert len(records.load(tmp_path / "older", SUITE)) == 3  # a longer curve is being measured


def test_a_cell_that_failed_before_its_first_point_has_none(tmp_path: Path) -> None:
    failed = CellState(records.SCHEMA, "0" * 16, "failed", 0, 1.0, "no memory")
    records.write(cell(tmp_path) / "cell.json", failed)
    assert records.load(tmp_path, SUITE) == []


@pytest.mark.parametrize(
    ("changes", "what"), [({"epochs": 2.5}, "number of epochs"), ({"learning_rate": 0.1}, "learning rate")]
)
def test_points_with_one_fingerprint_were_measured_alike(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    own = {"budget": "short", "epochs": 5, "learning_rate": 0.003}
    folder = cell(store(tmp_path, [made(**{**own, "index": index}) for index in (0, 1)]))
    folder = folder.with_name(folder.name.replace("post-training", "short"))
    records.write(folder / "p01.json", made(**{**own, **changes, "index": 1}))
    with pytest.raises(RecordError, match=rf"p00\.json and p01\.json have one fingerprint, but another {what}"):
        records.load(tmp_path, SUITE)


def test_a_learning_rate_needs_a_number_of_epochs(tmp_path: Path) -> None:
    with pytest.raises(DamagedRecord, match=r"has no number of epochs, but the learning rate 0\.003"):
        store(tmp_path, [made(learning_rate=0.003)])


ANOTHER: dict[str, Callable[[], list[records.Record]]] = {
    "epochs": lambda: [made(budget="short", epochs=5), made(budget="short", epochs=2.5, seed=1)],
    "learning rate": lambda: [
        made(budget="short", epochs=5, learning_rate=rate, seed=seed) for seed, rate in enumerate((None, 0.003))
    ],
    "test items of top-1": lambda: [made(), made(seed=1, metrics={"top-1": counted(900, 999)})],
    "task": lambda: [made(), made(seed=1, task="cifar10")],
    "uncompressed bytes": lambda: [made(), made(seed=1, rate=_uncompressed(44_000))],
    "bits per weight known": lambda: [made(), made("beta", rate=_uncompressed(40_000, None))],
    "data of provenance": lambda: [made(), made(seed=1, provenance=_origin(data={"data": f"md5:{'1' * 32}"}))],
    "setting steps": lambda: [
        made(),
        made(seed=1, config={"mode": "plain", "steps": 4}, config_hash=made().config_hash),
    ],
}


def _uncompressed(size: int, bits: float | None = 8 * 10_000 / 11_000) -> records.Rate:
    return msgspec.structs.replace(made().rate, uncompressed_bytes=size, ratio=size / 10_000, bits_per_weight=bits)


def _origin(**changes: Any) -> records.Provenance:
    return msgspec.structs.replace(made().provenance, **changes)


@pytest.mark.parametrize("what", ANOTHER)
def test_records_of_different_things_are_not_averaged(what: str) -> None:
    known = ANOTHER[what]()
    with pytest.raises(RecordError, match=re.escape(f"{known[0].id} and {known[1].id} can't be compared: {what} ")):
        aggregate(known)
    assert len(aggregate(known[:1])) == len(aggregate(known[1:])) == 1


def test_what_only_one_record_names_is_no_difference() -> None:
    """A later release may record more of the data, and a setting can go or be added."""
    more = {**made().provenance.data, "tensors": "sha256:" + "0" * 64}
    known = [made(), made(seed=1, provenance=_origin(data=more), config={"mode": "plain", "steps": 3, "new": 1})]
    comparable.check([known[0], msgspec.structs.replace(known[1], config_hash=known[0].config_hash)])


def test_show_compares_only_what_can_be(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    laboratory.run()
    path = records.paths(laboratory.results, "digits")[1]
    items.path_beside(path).unlink()
    records.write(path, msgspec.structs.replace(records.read(path), metrics={"top-1": counted(300, 399)}))
    assert laboratory.ratebench("show", "digits") == 1
    assert "can't be compared: test items of top-1 400 against 399" in " ".join(capsys.readouterr().err.split())


def test_items_beside_a_record_are_those_that_it_sums_up(laboratory: Laboratory) -> None:
    laboratory.run()
    path = records.paths(laboratory.results, "digits")[1]
    beside = items.path_beside(path)
    beside.write_bytes(bytes([beside.read_bytes()[0] ^ 1]) + beside.read_bytes()[1:])
    with pytest.raises(RecordError, match=r"p01\.items does not hold the 400 items that p01\.json sums up"):
        records.load(laboratory.results, "digits")


def test_items_that_can_not_be_read_now_are_not_called_wrong(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory.run()
    known = records.load(laboratory.results, "digits")[1]

    def busy(*_: Any) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(items.regular, "read", busy)
    with pytest.raises(RecordError, match=r"^can't read .*p01\.items: Too many open files$"):
        items.check(laboratory.results / f"{known.id}.json", known)


def test_a_log_is_a_file_in_the_folder_of_a_record(tmp_path: Path) -> None:
    """Not what a link leads to, nor a pipe, nor beside what an id says; of a long one, the end is shown."""
    results = store(tmp_path / "results", [made(seed=seed) for seed in range(5)])
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folders = [results / made(seed=seed).id.rpartition("/")[0] for seed in range(5)]
    (folders[0] / LOG).write_text("a log")
    (folders[1] / LOG).symlink_to(secret)
    os.mkfifo(folders[2] / LOG)
    (folders[3] / LOG).mkdir()
    (folders[4] / LOG).write_bytes(b"begin" + bytes(cells.LOG_BYTES) + b"end")
    found = cells.logs(results, SUITE)
    assert [Path(name).name[-2:] for name in found] == ["s0", "s4"]
    assert found[made().id.rpartition("/")[0]] == "a log"
    long = found[made(seed=4).id.rpartition("/")[0]]
    assert len(long) == cells.LOG_BYTES and long.endswith("end") and "begin" not in long
    with pytest.raises(OSError, match="it has 6 bytes, more than 5"):
        regular.read(secret, 5)
    page = Page(render(SUITE, results, tmp_path / "reports"))
    assert "secret" not in page.text


def test_a_copied_cell_without_records_is_no_gap(tmp_path: Path) -> None:
    results = store(tmp_path, seeds())
    failed = CellState(records.SCHEMA, "0" * 16, "failed", 0, 1.0, "no memory")
    for name in ("aaaaaaaa-short-s0", "aaaaaaaa-short-s0 (copy)", "notes"):
        records.write(results / SUITE / "net" / "beta" / name / "cell.json", failed)
    assert [gap.seeds for gap in cells.gaps(results, SUITE, seeds()) if gap.status == "failed"] == [(0,)]


def test_a_run_that_begins_is_told_of_a_file_that_may_be_fine(laboratory: Laboratory) -> None:
    """One that came there after the plan, too."""
    laboratory.run()
    path = laboratory.results / laboratory.cells()[0].id / "p00.json"
    path.write_bytes(_newer(path.read_bytes()))
    with pytest.raises(RecordError, match="newer release"):
        list(schedule.run(laboratory.cells(), laboratory.results, [].append))
    assert "colour" in path.read_text()
