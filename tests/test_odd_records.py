"""Every value of a record replaced by odd ones: each is refused in one sentence, or is a value that may be anything."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from invented import RMSE, averaged, invent_task, made, store

from benchmarks import records
from benchmarks.errors import RecordError
from benchmarks.papers import claimed
from benchmarks.records import Record, described, table
from benchmarks.records.rows import aggregate
from benchmarks.report import payload, series
from benchmarks.report.columns import columns

CELL = "cifar10/resnet20/l1_filter/44136fa3-short-s0"  # three points
HUGE = "1e999"  # JSON has no infinity, but takes this number
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 399, 0.5, -0.5, 2.0, 999.0, 1e-300, 1e300, 2**53 + 1, 2**64, 10**400, HUGE, "NaN"),
    *("", "x", "-5", "digits", "../../x", "=1+1", "\n", "\x00", "é" * 300, "</script>", "md5:0", "2026-01-01", "paper"),
    *("a" * 8, "a" * 16, "A" * 16, "a" * 40, "a" * 64, [], [[1]], {}, {"a": {"b": None}}),
]
# Values that nothing else in a record determines: texts and labels, times, hashes of what is elsewhere, counts.
FREE = re.compile(
    r"(point|notes|provenance\.versions)(\..*)?|provenance\.data|wall_s|speed\.(threads|(en|de)code_s|latency_ms_batch\d+)|fidelity"
    r"|provenance\.(fingerprint|commit|dirty|artefact_sha256)|counted\.(elements|nonzero|macs)|validation"
)
BOUNDS = {  # of the free values
    r"validation": lambda v: v is None,
    r"wall_s|speed\.(en|de)code_s|speed\.latency_ms_batch1": lambda v: number(v) and v >= 0,
    r"speed\.latency_ms_batch128": lambda v: v is None or (number(v) and v >= 0),
    r"speed\.threads|counted\..*": lambda v: type(v) is int and 0 <= v <= 2**53,
    r"provenance\.versions\..*": lambda v: isinstance(v, str),
    r"provenance\.dirty": lambda v: v in (None, True, False),
    r"provenance\.commit": lambda v: v is None or re.fullmatch("[0-9a-f]{40,64}", v),
    r"provenance\.fingerprint": lambda v: re.fullmatch("[0-9a-f]{16}", v),
    r"provenance\.artefact_sha256": lambda v: re.fullmatch("[0-9a-f]{64}", v),
    r"fidelity": lambda v: v in ("paper", "reconstruction", "baseline"),
}


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def leaves(value: Any, *place: Any) -> Iterator[tuple[Any, ...]]:
    """The places of all values that hold no others, and of those that do."""
    if place:
        yield place
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value[:2]):
            yield from leaves(inner, *place, name)


def replaced(whole: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = inner = copy.deepcopy(whole)
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return changed


def text(whole: Any) -> str:
    """JSON with the numbers that only a text can hold."""
    return re.sub(rf'"(-?{HUGE}|NaN|Infinity)"', r"\1", json.dumps(whole))


def at(whole: Any, place: tuple[Any, ...]) -> Any:
    for name in place:
        whole = whole[name]
    return whole


def shown(known: list[Record]) -> None:
    """What a report makes of records, without its figures."""
    rows = aggregate(known)
    for row in rows:
        for column in columns(described.all_metrics(known), True, {}):
            column.value(row), column.text(row)
    list(series.series(rows))
    list(claimed.judged(rows, {"cifar10"}, Path()))
    list(claimed.observed(rows, {"cifar10"}))
    table.csv(known, "0" * 12, "", {})
    payload.records(known, {r.id: True for r in known})


def test_an_odd_value_is_refused_or_free(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / CELL, tmp_path / CELL)
    path = tmp_path / CELL / "p01.json"
    whole = json.loads(path.read_text()) | {"notes": {"layers": [{"name": "stem", "kept": 8}], "shared": 0.5}}
    whole["provenance"]["versions"] = {"python": "3.11.7"}
    refused = 0
    for place in leaves(whole):
        name = ".".join(map(str, place))
        for odd in ODD:
            path.write_text(text(replaced(whole, place, odd)))
            try:
                records.read(path)
                shown(records.load(tmp_path, "cifar10"))
            except RecordError as error:
                refused += 1
                assert "\n" not in str(error) and "p01" in str(error) and "delete" not in str(error)
                continue
            before = at(whole, place)
            same = json.dumps(odd) == json.dumps(before) or (
                number(odd) and number(before) and odd == before
            )  # 1 is 1.0
            assert same or FREE.fullmatch(name), (name, odd)
            for pattern, legal in BOUNDS.items():
                assert not re.fullmatch(pattern, name) or legal(odd), (name, odd)
    assert refused > 1_500


def test_an_odd_value_of_a_mean_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the task is known or gone."""
    known = made(task="positions", metrics={"rmse": averaged(RMSE, [0.5, -1.0, 4.0, 0.25])})
    path = store(tmp_path, [known]) / f"{known.id}.json"
    whole = json.loads(path.read_text())
    for task in (False, True):
        if task:
            invent_task(monkeypatch, "positions", RMSE)
        for place in leaves(whole["metrics"]["rmse"], "metrics", "rmse"):
            value = at(whole, place)
            for odd in [*ODD, *([value + 1, value - 1, 1.001 * value, -value] if number(value) else [])]:
                path.write_text(text(replaced(whole, place, odd)))
                if odd != value:
                    with pytest.raises(RecordError, match=r"p00\.json (is not a valid record|was written by a newer)"):
                        records.read(path)
        path.write_text(json.dumps(whole))
        assert records.read(path) == known


def test_an_odd_value_of_a_cells_state_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / CELL, tmp_path / CELL)
    path = tmp_path / CELL / "cell.json"
    whole = json.loads(path.read_text())
    for place in leaves(whole):
        for odd in ODD:
            path.write_text(text(replaced(whole, place, odd)))
            try:
                records.load(tmp_path, "cifar10")
            except RecordError:
                continue
            legal = place == ("wall_s",) and number(odd) and odd >= 0
            older = place == ("schema",) and odd == 1  # no field has changed since
            fingerprint = place == ("fingerprint",) and re.fullmatch("[0-9a-f]{16}", odd)
            nothing = place == ("error",) and odd == ""
            assert odd == at(whole, place) or legal or older or fingerprint or nothing, (place, odd)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("rate.file_bytes", -5),
        ("rate.ratio", 999.0),
        ("rate.bits_per_weight", 1.0),
        ("rate.by_role.weights", 1),
        ("metrics.top-1.total", 10_001),
        ("metrics.top-1.squares", 1),
        ("metrics.top-1.low", 0.0),
        ("metrics.top-1.items", 400),
        ("config_hash", "00000000"),
        ("seed", 1),
        ("index", 2),
        ("suite", "digits"),
        ("task", "../digits"),
        ("id", "/elsewhere/secret/p03"),
        ("speed.device", "another"),
        ("provenance.started", "2026-01-01T00:00:00+01:00"),
        ("provenance.data.data", "md5:0"),
        ("provenance.command", "rm -r /"),
        ("counted.nonzero", 10**9),
    ],
)
def test_a_value_that_others_contradict_is_refused(tmp_path: Path, place: str, value: Any) -> None:
    """By the record alone, whatever stands beside it."""
    whole = json.loads((ROOT / "results" / CELL / "p01.json").read_text())
    path = tmp_path / "p01.json"
    path.write_text(json.dumps(replaced(whole, tuple(place.split(".")), value)))
    with pytest.raises(RecordError, match=r"p01\.json is not a valid record \(.*`ratebench run` measures that point"):
        records.read(path)


def test_a_hash_of_eight_digits_names_a_checkpoint(tmp_path: Path) -> None:
    """Public checkpoints carry them in their names."""
    whole = json.loads((ROOT / "results" / CELL / "p01.json").read_text())
    path = tmp_path / "p01.json"
    path.write_text(json.dumps(replaced(whole, ("provenance", "data", "reference"), "sha256:d509ac18")))
    assert records.read(path).provenance.data["reference"] == "sha256:d509ac18"


def test_all_committed_records_make_sense() -> None:
    for suite in ("cifar10", "imagenet-sample"):
        known = records.load(ROOT / "results", suite)
        assert known and aggregate(known)
