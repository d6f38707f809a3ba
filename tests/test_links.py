"""Links and counts in a results folder that lead astray: nothing is measured over them, and nothing is left out silently."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import test_runner
from test_runner import Laboratory

from benchmarks import records
from benchmarks.errors import RecordError
from benchmarks.running.state import state

laboratory = test_runner.laboratory


def folder(laboratory: Laboratory) -> Path:
    return laboratory.results / laboratory.cells()[0].id


@pytest.mark.parametrize("place", ["p00.json", "cell.json", ".", "..", "../.."])
def test_a_link_to_what_is_not_mounted_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """Wrong code that this finds: `path.exists()`, which is False for such a link."""
    laboratory.run()
    path = (folder(laboratory) / place).resolve()
    away = path.rename(laboratory.folder / "away")
    path.symlink_to(laboratory.folder / "mount" / "away")
    for command in ("show", "run", "plan"):
        capsys.readouterr()
        assert laboratory.ratebench(command, "digits") == 1
        said = capsys.readouterr().err
        assert re.search(rf"{path.name}:?( it)? is a link to {laboratory.folder}/mount/away, which is not there", said)
        assert said.count("\n") == 1 and path.is_symlink()
    (laboratory.folder / "mount").mkdir()
    away.rename(laboratory.folder / "mount" / "away")
    assert laboratory.ratebench("show", "digits") == 0 and laboratory.run()[0] == ["complete"]


@pytest.mark.parametrize("place", ["p00.json", "cell.json"])
def test_a_folder_in_the_place_of_a_record_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    laboratory.run()
    path = folder(laboratory) / place
    path.unlink()
    path.mkdir()
    for command in ("show", "run"):
        assert laboratory.ratebench(command, "digits") == 1
        assert re.search(rf"^error: can't read .*/{place}: ", capsys.readouterr().err)


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("points", [0, 2, 2**53])
def test_a_state_that_counts_other_points_is_completed(laboratory: Laboratory, points: int) -> None:
    """At once: a list of 2^53 points never ends."""
    laboratory.run()
    cell, place = laboratory.cells()[0], folder(laboratory) / "cell.json"
    before = place.read_text()
    changed(place, points=points)
    assert state(cell, laboratory.results) is None
    with pytest.raises(RecordError):
        records.load(laboratory.results, "digits")
    laboratory.run()
    assert json.loads(place.read_text())["points"] == json.loads(before)["points"] == 3


@pytest.mark.parametrize("what", ["task", "config"])
def test_a_record_that_is_not_of_its_cell_is_measured_again(laboratory: Laboratory, what: str) -> None:
    """Whatever its fingerprint says."""
    laboratory.run()
    cell = laboratory.cells()[0]
    for path in records.points(folder(laboratory)):
        whole = json.loads(path.read_text())
        odd = "cifar10" if what == "task" else whole["config"] | {"epochs": 77}
        changed(path, **{what: odd})
    assert state(cell, laboratory.results) is None
    assert laboratory.run()[0] == ["complete"]
    assert {r.task for r in records.load(laboratory.results, "digits")} == {"digits"}
    assert state(cell, laboratory.results)


def test_one_operating_point_is_there_once(laboratory: Laboratory) -> None:
    laboratory.run()
    one, two = records.points(folder(laboratory))[:2]
    changed(two, point=json.loads(one.read_text())["point"])
    with pytest.raises(RecordError, match=r"p00\.json and p01\.json are the same operating point"):
        records.load(laboratory.results, "digits")


def test_a_key_is_there_once(laboratory: Laboratory) -> None:
    """Readers of JSON take the first or the last: the page and a script would show different sizes."""
    laboratory.run()
    path = records.points(folder(laboratory))[0]
    whole = path.read_text()
    path.write_text(whole.replace('"rate": {', '"rate": {"file_bytes": 10,', 1))
    with pytest.raises(RecordError, match=r"p00\.json is not a valid record \(the key 'file_bytes' is there twice\)"):
        records.load(laboratory.results, "digits")
    path.write_text(json.dumps(json.loads(whole)))  # another layout is fine
    assert len(records.load(laboratory.results, "digits")) == 3


def test_a_damaged_name_is_no_newer_release(laboratory: Laboratory) -> None:
    """It lacks what every release writes; `run` measures it again. A value that only later releases know is left alone."""
    laboratory.run()
    path = records.points(folder(laboratory))[0]
    whole = path.read_text()
    for name in ("wall_s", "ratio", "value", "cpu"):
        path.write_text(whole.replace(f'"{name}":', f'"{name[:-1]}_":', 1))
        with pytest.raises(RecordError, match=r"p00\.json is not a valid record"):
            records.read(path)
        assert laboratory.run()[0] == ["complete"]
        shutil.copy(path, path.with_suffix(".again"))
    path.write_text(whole.replace('"fidelity": "', '"fidelity": "re-', 1))
    with pytest.raises(RecordError, match=r"written by a newer release of RateBench \(.*Invalid enum value"):
        laboratory.run()
