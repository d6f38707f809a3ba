"""dvc.yaml in a small copy of the project: what runs, what stands in its way, and what makes which stage stale."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.dependency.param import read_param_file
from dvc.fs import LocalFileSystem
from places import TESTS, python_path
from test_runner import COMMAND

from benchmarks import storage
from benchmarks.fingerprint import ROOT
from benchmarks.running import params, plan, stages
from benchmarks.running.cell import Cell

SUITES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["fingerprints"]["foreach"]
FEW = {"methods": ["magnitude", "reference"], "budgets": ["post-training", "short"], "configs": {}}
PRUNED = {"sparsities": [0.5], "rounds": [0.5]}
CONFIGS = {"post-training": {"magnitude": [PRUNED]}, "short": {"magnitude": [PRUNED]}}
BUDGETS = {"post-training": {"epochs": 0}, "short": {"epochs": 0.2}, "paper": {"epochs": None}}
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")


class Copy:
    """The project in another folder, with two methods on one network of each suite."""

    def __init__(self, place: Path) -> None:
        self.folder, self.cache = place / "project", place / "cache"
        for name in ("benchmarks", "methods"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "data.dvc", ".dvcignore", ".dvc/config"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        trained = storage.cache_folder() / "digits"  # the reference, where another test has trained it
        if trained.is_dir():
            shutil.copytree(trained, self.cache / "digits")
        self.git("init", "-q")
        storage.write(place / "bin/ratebench", f"#!{sys.executable}{COMMAND}".encode())
        (place / "bin/ratebench").chmod(0o755)
        self.params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        self.params |= {"budgets": BUDGETS, "configs": CONFIGS}
        for name in SUITES:
            self.params[name] |= {**FEW, "networks": self.params[name]["networks"][:1]}
        self.write(self.params)

    def write(self, changed: dict[str, Any]) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")

    def git(self, *arguments: str) -> None:
        subprocess.run([*GIT, *arguments], cwd=self.folder, check=True)

    def append(self, file: str, line: str) -> None:
        with (self.folder / file).open("a", encoding="utf-8") as code:
            code.write(f"\n{line}\n")

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Without archives of ILSVRC2012 or a mirror; its `ratebench` scores without another process."""
        programs = Path(sys.executable).parent
        place = {
            "PATH": os.pathsep.join((str(self.folder.parent / "bin"), str(programs), os.environ["PATH"])),
            "PYTHONPATH": python_path(self.folder, TESTS),
            "RATEBENCH_CACHE": str(self.cache),
            "RATEBENCH_MIRROR": str(self.folder / "no-mirror"),
            "RATEBENCH_IMAGENET": "",
            "DVC_SITE_CACHE_DIR": str(self.cache),
            "OMP_NUM_THREADS": "1",
        }
        command, options = [programs / "dvc", *arguments], {"cwd": self.folder, "env": os.environ | place}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload,no-any-return]

    def listed(self) -> set[str]:
        """The stages of the digits suite that `dvc status` lists."""
        return set(json.loads(self.dvc("status", "--json", "--with-deps", "digits").stdout))

    def stale(self) -> set[str]:
        """The stages that `dvc repro digits` runs once it has written the fingerprints."""
        written = self.dvc("repro", "fingerprints@digits")
        assert written.returncode == 0, written.stderr
        return self.listed()


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Copy, subprocess.CompletedProcess[str]]:
    copy = Copy(tmp_path_factory.mktemp("copy"))
    done = copy.dvc("repro", "-k", "imagenet-prepare", "digits")
    copy.git("add", "-A")
    copy.git("commit", "-q", "-m", "reproduced")
    return copy, done


@pytest.fixture
def copy(reproduced: tuple[Copy, object]) -> Iterator[Copy]:
    """The copy as it was reproduced, and put back afterwards."""
    yield reproduced[0]
    reproduced[0].git("reset", "-q", "--hard")
    reproduced[0].git("clean", "-fdq")


def test_missing_archives_are_named_and_the_other_suites_run(
    reproduced: tuple[Copy, subprocess.CompletedProcess[str]],
) -> None:
    copy, done = reproduced
    said = done.stdout + done.stderr
    assert done.returncode != 0
    places = ", ".join(f"data/ILSVRC2012_{name}" for name in ("img_train.tar", "img_val.tar", "devkit_t12.tar.gz"))
    assert f"missing: {places}: download from image-net.org (registration required)" in said
    assert (copy.folder / "reports/digits/index.html").is_file()
    assert "data/imagenet/prepared.json" in described()["imagenet-methods"]["deps"]


def test_a_stage_runs_all_budgets_of_its_suite(copy: Copy) -> None:
    cells = (copy.folder / "results/digits/digits_cnn/magnitude").iterdir()
    assert sorted(cell.name.split("-", 1)[1] for cell in cells) == ["post-training-s0", "short-s0"]


def test_what_is_up_to_date_is_not_run_again(copy: Copy) -> None:
    assert copy.listed() == set()
    done = copy.dvc("repro", "digits")
    assert done.returncode == 0 and "Running stage" not in done.stdout


def test_a_change_of_a_method_makes_its_own_stages_stale_and_the_report(copy: Copy) -> None:
    copy.append("methods/baselines/reference.py", "CHANGED = True")
    assert copy.listed() == {"fingerprints@digits", "digits"}
    assert copy.stale() == {"digits-methods@reference-digits_cnn", "digits"}


def test_comments_and_moved_files_make_no_method_stale(copy: Copy) -> None:
    copy.append("benchmarks/bitstream/container.py", "# Another comment.")
    (copy.folder / "benchmarks/bitstream/entropy.py").rename(copy.folder / "benchmarks/ranges.py")
    for file in (*copy.folder.glob("benchmarks/**/*.py"), *copy.folder.glob("methods/**/*.py")):
        code = file.read_text(encoding="utf-8")
        file.write_text(code.replace("benchmarks.bitstream.entropy", "benchmarks.ranges"), encoding="utf-8")
    assert copy.stale() == {"digits"}


def test_a_new_method_and_a_new_configuration_make_no_other_stage_stale(copy: Copy) -> None:
    suite = copy.params["digits"] | {"methods": [*copy.params["digits"]["methods"], "uniform"]}
    configs = CONFIGS | {"short": {"magnitude": [PRUNED, PRUNED | {"score": "lamp"}]}}
    copy.write(copy.params | {"digits": suite, "configs": configs})
    assert copy.stale() == {"digits-methods@magnitude-digits_cnn", "digits-methods@uniform-digits_cnn", "digits"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    params._params.cache_clear()
    yield
    params._params.cache_clear()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", SUITES)
def test_a_fingerprint_changes_with_one_of_its_cells_and_no_other(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed: set[str] = set()
    monkeypatch.setattr(Cell, "fingerprint", lambda cell: str(cell.id in changed))
    reasons, unsupported = dict[str, str | None](), Cell.unsupported

    def once(cell: Cell) -> str | None:
        """Whether a cell can be run does not change; to ask builds its network."""
        if cell.id not in reasons:
            reasons[cell.id] = unsupported(cell)
        return reasons[cell.id]

    monkeypatch.setattr(Cell, "unsupported", once)
    suite = params.suite(name)
    names = [f"{network}.{key}" for network in suite.networks for key in suite.methods]

    def read() -> dict[str, str]:
        """As DVC reads them."""
        storage.write(tmp_path / "found.json", json.dumps(stages.fingerprints(name)).encode())
        found: dict[str, str] = read_param_file(LocalFileSystem(), str(tmp_path / "found.json"), names, flatten=True)
        return found

    before = read()
    assert list(before) == names
    cells = [cell for budget in suite.budgets for cell in plan.cells(name, budget_name=budget)]
    cells = [cell for cell in cells if cell.unsupported() is None]
    chosen = (cells[0], cells[len(cells) // 2], cells[-1])
    changed.update(cell.id for cell in chosen)
    after = read()
    assert {one for one in names if after[one] != before[one]} == {f"{cell.network}.{cell.method}" for cell in chosen}


def described() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return found


@pytest.mark.parametrize("name", SUITES)
def test_the_stages_of_suites_differ_in_names_alone(name: str) -> None:
    known = described()
    assert name in known["fingerprints"]["foreach"]
    own = [{key: value for key, value in known[f"{name}-methods"].items() if key != "deps"}, known[name]]
    expected = json.dumps([known["digits-methods"], known["digits"]]).replace("digits", name)
    assert own == json.loads(expected)
