"""Latencies: timed together in interleaved rounds on an idle machine, and shown only where they were."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from pathlib import Path

import msgspec
import pandas as pd
import pytest
import torch
from browsing import Open, saved
from invented import SUITE, everything, made, reference, store, timed
from torch import nn

from benchmarks import bitstream, cli, networks
from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw
from benchmarks.errors import RecordError
from benchmarks.evaluation import measure
from benchmarks.records import Record, latency
from benchmarks.records.rows import aggregate
from benchmarks.report import render
from benchmarks.running import timing
from methods.interface import Compressed

pytest_plugins = ["chromium"]
CPU = torch.device("cpu")


def artefact(seed: int, width: int = 4) -> bytes:
    """A file of a small network for 8 × 8 digits, with random weights."""
    torch.manual_seed(seed)
    tensors = blueprint.state(networks.build("digits_cnn", {"width": width}))
    part = raw.part(list(tensors), [tensor.detach().numpy() for tensor in tensors.values()], "weights")
    return bitstream.encode(Compressed("digits_cnn", {"width": width}, (part,), {}))


def stored(results: Path, *files: bytes) -> list[Record]:
    """A record for each file of one network, and the files beside them."""
    known = []
    for index, data in enumerate(files):
        one = made(index=index, network="digits_cnn", file_bytes=len(data))
        origin = msgspec.structs.replace(one.provenance, artefact_sha256=hashlib.sha256(data).hexdigest())
        known.append(msgspec.structs.replace(one, provenance=origin))
    store(results, known)
    for one, data in zip(known, files, strict=True):
        (results / f"{one.id}.rbn").write_bytes(data)
    return known


def ratebench(patch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    patch.setattr(sys, "argv", ["ratebench", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(Values of the network, batch) of each timing, which takes as many milliseconds as timings came before."""
    made_calls: list[tuple[int, int]] = []

    def timing_of(network: nn.Module, example: torch.Tensor, batch: int, seconds: float) -> float:
        made_calls.append((blueprint.values(network), batch))
        return float(len(made_calls))

    monkeypatch.setattr(measure, "latency_ms", timing_of)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.2, 9.0, 9.0))
    return made_calls


def test_architectures_take_turns(
    calls: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that differ only in their weights are one architecture; each round times every one at both batch sizes."""
    small, large = artefact(0), artefact(1, width=6)
    known = stored(tmp_path, small, large, artefact(2))
    assert ratebench(monkeypatch, "time", SUITE, "--results", str(tmp_path)) == 0
    sizes = [blueprint.values(bitstream.decode(data)) for data in (small, large)]
    assert calls == [(size, batch) for _ in range(timing.ROUNDS) for size in sizes for batch in (1, 128)]
    path = tmp_path / SUITE / "digits_cnn" / "latency.json"
    found = latency.read(path)
    hashes = [r.provenance.artefact_sha256 for r in known]
    assert [one.artefacts for one in found.architectures] == [[hashes[0], hashes[2]], [hashes[1]]]
    assert [one.records for one in found.architectures] == [[known[0].id, known[2].id], [known[1].id]]
    each = [[call + 4 * turn for turn in range(timing.ROUNDS)] for call in (1, 2, 3, 4)]
    for one, (alone, many) in zip(found.architectures, (each[:2], each[2:]), strict=True):
        for spread, times in ((one.batch1, alone), (one.batch128, many)):
            assert (
                spread and spread.median == sorted(times)[3]
            )  # of seven; the quartiles lie half-way between neighbours
            assert (spread.low, spread.high) == ((times[1] + times[2]) / 2, (times[4] + times[5]) / 2)
    assert (found.rounds, found.load, found.network, found.task) == (timing.ROUNDS, 0.2, "digits_cnn", "digits")
    assert found.versions["torch"] and found.threads == torch.get_num_threads()


def test_a_busy_machine_is_refused(
    calls: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, artefact(0))
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0.0, 0.0))
    assert ratebench(monkeypatch, "time", SUITE, "--results", str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "error: this machine is not idle: its load average over the last minute is 1.50, more than 0.5"
    )
    assert said.count("\n") == 1 and not calls and not list(tmp_path.rglob("latency.json"))


def test_only_the_files_of_records_are_timed(
    calls: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = stored(tmp_path, artefact(0), artefact(1), artefact(2))
    files = [tmp_path / f"{one.id}.rbn" for one in known]
    files[0].unlink()
    files[1].write_bytes(artefact(9))
    assert ratebench(monkeypatch, "time", SUITE, "-n", "digits_cnn", "--results", str(tmp_path)) == 0
    said = capsys.readouterr()
    assert said.err == f"left out: {files[1]} is not the file of its record\n"
    assert said.out.startswith("1 architecture of 1 artefact: wrote ")
    assert list(latency.load(tmp_path, SUITE)) == [known[2].provenance.artefact_sha256]
    files[1].unlink(), files[2].unlink()
    for arguments, sentence in (
        (
            [SUITE],
            r"no artefact of invented/digits_cnn is beside its records: `ratebench run invented --results FOLDER`",
        ),
        ([SUITE, "-n", "digits"], "unknown network 'digits'"),
        (["nothing"], "there are no records of 'nothing'"),
    ):
        assert ratebench(monkeypatch, "time", *arguments, "--results", str(tmp_path)) == 1
        assert sentence in capsys.readouterr().err


def test_a_real_network_is_timed(tmp_path: Path) -> None:
    (one,) = stored(tmp_path, artefact(0))
    found = timing.timed({tmp_path / f"{one.id}.json": one}, CPU, 0.0, print)
    (own,) = found.architectures
    assert own.batch128 is not None
    for spread in (own.batch1, own.batch128):
        assert 0 < spread.low <= spread.median <= spread.high
    assert own.batch128.median > own.batch1.median


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = latency.write(tmp_path, timed("a" * 64))
    path.write_text(path.read_text().replace("rounds", "round"))
    with pytest.raises(RecordError, match=r"latency.json holds no latencies .*: restore it, or let `ratebench time`"):
        latency.load(tmp_path, SUITE)


def test_a_row_has_the_latency_of_the_architecture_that_all_its_files_share() -> None:
    def of(*hashes: str) -> latency.Timed | None:
        known = [made(seed=seed) for seed in range(len(hashes))]
        origins = [
            msgspec.structs.replace(r.provenance, artefact_sha256=64 * h) for r, h in zip(known, hashes, strict=True)
        ]
        renamed = [msgspec.structs.replace(r, provenance=o) for r, o in zip(known, origins, strict=True)]
        return latency.of_row(aggregate(renamed)[0], table)

    slow, fast = (timed(ms=ms).architectures[0] for ms in (2.0, 1.0))
    table = {64 * name: latency.Timed(one, "") for name, one in (("a", slow), ("b", slow), ("c", fast))}
    found = {names: of(*names) for names in ("a", "ab", "c", "ac", "ad", "d", "da")}
    shown = {names: one and one.architecture.batch1.median for names, one in found.items()}
    assert shown == {"a": 2.0, "ab": 2.0, "c": 1.0, "ac": None, "ad": None, "d": None, "da": None}


def test_a_page_without_timed_architectures_shows_no_latency(opened: Open, tmp_path: Path) -> None:
    path = render(SUITE, store(tmp_path / "results", everything()), tmp_path / "reports")
    page = opened(path, "#x=latency1&columns=latency1,decode,bytes")
    assert page.evaluate("state.x") == "bytes" and page.evaluate("state.columns") == ["bytes"]
    assert page.locator("[value^=latency]").count() == 0
    page.evaluate("change({ columns: page.columns.map(column => column.key) })")
    for kind in ("csv", "json", "latex"):
        assert "latency" not in saved(page, kind) and "decode" not in saved(page, kind)
    page.evaluate("goTo(page.rows[0])")
    speed = page.locator("tr.drawer tr:has(th:text-is('speed')) td").first.inner_text()
    assert speed.startswith("encode 0.500 s, decode 0.033 s, on ") and "batch" not in speed
    assert "b128" not in page.inner_text("header details")
    header = (path.parent / "records.csv").read_text().splitlines()[0]
    assert "latency" not in header and "ratebench time invented" in page.inner_text("footer")


def test_what_was_timed_is_shown_with_its_spread(opened: Open, tmp_path: Path) -> None:
    results = store(tmp_path / "results", [*everything(), reference("third")])
    latency.write(results, timed("a" * 64))
    page = opened(render(SUITE, results, tmp_path / "reports"))
    rows = list(csv.DictReader(io.StringIO(saved(page, "csv"))))
    assert rows and {row["latency1"] for row in rows} == {"1.25"}  # the records say 1 to 1.3 ms
    whole = pd.read_csv(tmp_path / "reports" / SUITE / "records.csv")
    found = whole[[f"latency_ms_batch{batch}.{part}" for batch in (1, 128) for part in ("median", "low", "high")]]
    assert (found.to_numpy() == [1.25, 1.2, 1.5, 40.0, 38.4, 48.0]).all() and len(whole) == len(everything()) + 1
    page.evaluate("goTo(page.rows[0])")
    speed = page.locator("tr.drawer tr:has(th:text-is('speed')) td").first.inner_text()
    assert speed.endswith(
        "; batch 1 1.25 ms (quartiles 1.20–1.50 ms), batch 128 40.0 ms (quartiles 38.4–48.0 ms), "
        "timed on an idle machine: an idle processor, 1 thread used"
    )
