"""Records hold the score on the validation items, by which configurations are chosen; nothing is ranked by it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks import bitstream, records, tasks
from benchmarks.errors import DamagedRecord
from benchmarks.evaluation.scoring import total_score
from benchmarks.records import sense, table
from benchmarks.running import plan, schedule, validation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One measured cell on the digits, with its files."""
    results = tmp_path_factory.mktemp("results")
    assert [*schedule.run(plan.cells("digits", ["svd"], ["digits_cnn"]), results, lambda _: None)]
    cell, *_ = records.cells(results, "digits")
    return cell


def test_the_score_is_that_of_the_decoded_file_on_the_validation_items(folder: Path) -> None:
    task = tasks.load("digits", "digits_cnn")
    for path in sorted(folder.glob("p*.rbn")):
        found = records.read(path.with_suffix(".json")).validation
        right = total_score(bitstream.decode(path.read_bytes()), task.validation, task)
        assert found is not None
        assert (found.items, found.total) == (len(task.validation), right)


def test_several_processes_add_up_to_all_items(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, task = folder / "p00.rbn", tasks.load("digits", "digits_cnn")
    whole = validation.validated(path, task)
    parts = []
    for number in range(3):
        monkeypatch.setattr(validation.processes, "rank", lambda number=number: number)
        monkeypatch.setattr(validation.processes, "count", lambda: 3)
        parts.append(validation.validated(path, task))
    assert parts[0] + parts[1] + parts[2] == whole


def test_a_task_without_validation_items_has_no_such_score(folder: Path) -> None:
    assert validation.validated(folder / "p00.rbn", tasks.load("imagenet_sample", "mobilenet_v1_0.75")) is None


def test_a_changed_score_is_refused(folder: Path) -> None:
    known = records.read(folder / "p00.json")
    assert known.validation is not None
    wrong = msgspec.structs.replace(known.validation, total=known.validation.total - 1)
    with pytest.raises(DamagedRecord, match="of the validation score do not agree"):
        sense.check(msgspec.structs.replace(known, validation=wrong))


def test_records_of_both_kinds_share_a_table(folder: Path) -> None:
    known = records.read(folder / "p00.json")
    both = table.flat([known, msgspec.structs.replace(known, validation=None)])
    assert "validation" not in both
    assert both["validation.items"].tolist()[0] == known.validation.items
    assert both["validation.items"].isna().tolist() == [False, True]
