"""The small cells of `ratebench accept`, what is compared of them, and the rows that are written; no version is run."""

from __future__ import annotations

import dataclasses
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from invented import made

from benchmarks import equivalents, records
from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import ROOT
from benchmarks.running import accept, small
from methods.interface import Budget


def test_a_small_cell_on_a_large_task_trains_on_few_items() -> None:
    kind = small.Kind("magnitude", "{}", "short", "cifar10", "resnet20")
    cell = kind.cell("cifar10", "resnet20")
    assert 0 < cell.budget.epochs < 0.25 and kind.cell("digits", "digits_cnn").budget.epochs == 1
    assert small._parameters([cell])["budgets"]["short"] == {"epochs": cell.budget.epochs}
    assert dataclasses.replace(kind, budget="paper").cell("digits", "digits_cnn").budget == Budget("paper", None)
    with pytest.raises(
        RateBenchError, match=r"^magnitude has records with the configuration .* which is no longer valid: "
    ):
        dataclasses.replace(kind, changes='{"sparsities": [2.0]}').cell("digits", "digits_cnn")


def test_the_pins_of_the_data_are_there_where_small_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        small, "RATEBENCH", (sys.executable, "-c", "import sys; sys.exit('error: nothing is run here')")
    )
    cell = small.Kind("magnitude", "{}", "post-training", "digits", "digits_cnn").cell("digits", "digits_cnn")
    version = small.Version("now", ROOT, tmp_path)
    version.run([cell], 1)
    assert [path.name for path in sorted(version._place(cell).iterdir())] == ["data.dvc", "params.yaml"]
    assert version.reason(cell) == "error: nothing is run here"


def test_a_cell_that_ended_early_is_no_evidence(tmp_path: Path) -> None:
    """Under both versions it may end with the same points, and the change concern the others."""
    cell = small.Kind("magnitude", "{}", "post-training", "digits", "digits_cnn").cell("digits", "digits_cnn")
    version = small.Version("now", ROOT, tmp_path)
    records.write(version.folder(cell) / "p00.json", made("magnitude"))
    assert version.results(cell) == {}
    for status, error, points in (("failed", "no memory", set()), ("complete", None, {"p00"})):
        ended = records.CellState(records.SCHEMA, "0" * 16, status, 1, 1.0, error)  # type: ignore[arg-type]
        records.write(version.folder(cell) / "cell.json", ended)
        assert version.results(cell).keys() == points and version.reason(cell) == error


def test_all_that_code_decides_of_a_record_is_compared() -> None:
    """But not how long something took, nor where."""
    known = made("magnitude", notes={"layers": 3, "seconds": 1.5})
    found = small._results(known)
    score = known.quality
    for changes in (
        {"counted": msgspec.structs.replace(known.counted, macs=known.counted.macs + 1)},
        {"rate": msgspec.structs.replace(known.rate, bits_per_weight=1.0)},
        {"metrics": {"top-1": msgspec.structs.replace(score, low=score.low - 0.01)}},
        {"point": {"sparsity": 0.25}},
        {"notes": {"layers": 4, "seconds": 1.5}},
        {"provenance": msgspec.structs.replace(known.provenance, artefact_sha256="0" * 64)},
    ):
        assert small._results(msgspec.structs.replace(known, **changes)) != found, changes
    for changes in (
        {"speed": msgspec.structs.replace(known.speed, decode_s=known.speed.decode_s + 1)},
        {"wall_s": known.wall_s + 1},
        {"notes": {"layers": 3, "seconds": 2.5}},
        {"provenance": msgspec.structs.replace(known.provenance, cpu="another")},
    ):
        assert small._results(msgspec.structs.replace(known, **changes)) == found, changes


def test_rows_give_every_kind_of_cell_its_contents_before() -> None:
    """Also where two have the same new file, but one lost another file besides, where one has lost a file alone, and where
    one had before what another has now."""
    kinds = [
        ("acx", "bcx"),
        ("acdy", "bcy"),
        ("cdz", "cz"),
        ("aw", "bvw"),
        ("acdu", "abcu"),
        ("es", "fgs"),
        ("eg", "fg"),
    ]
    changed = [(frozenset(before), frozenset(now)) for before, now in kinds]
    trees: Any = SimpleNamespace(differ=lambda before, now, rows: equivalents.before(now, rows) != before)
    rows = accept._rows(changed, trees)
    for before, now in changed:
        assert equivalents.before(now, rows) == before
    assert equivalents.before(frozenset("ceq"), rows) == frozenset("ceq")
    assert [len(row.now) for row in rows] == sorted(len(row.now) for row in rows)


def test_every_accepted_change_has_evidence_and_says_why() -> None:
    """Of this checkout: each row was shown to be the same by cells that were run."""
    if not equivalents.PLACE.exists():
        pytest.skip("nothing has been accepted yet")
    for one in tomllib.loads(equivalents.PLACE.read_text(encoding="utf-8"))["accepted"]:
        assert len(one["why"]) > 20 and re.fullmatch("[0-9a-f]{40}", one["since"]) and one["evidence"]
        for row in one["same"]:
            assert row["files"] and row["now"] and row["now"] != row["then"]
