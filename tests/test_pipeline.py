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

import methods
from benchmarks import tasks
from benchmarks.fingerprint import ROOT, sources
from benchmarks.running import plan

FEW = {"methods": ["surp"], "baselines": ["reference"], "configs": {}}
REFERENCE = "digits-baselines@reference-digits_cnn"


class Copy:
    """The project in another folder, with one method and one baseline on one network of each suite."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reports = folder, folder / "reports"
        for name in ("benchmarks", "methods"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "data.dvc", ".dvcignore", ".dvc/config", "params.yaml"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for name, suite in params.items():
            if name not in ("budgets", "configs"):
                suite |= {**FEW, "networks": ["mobilenet_v2"] if name == "imagenet" else suite["networks"][:1]}
        self.write(params | {"configs": {"post-training": {"surp": [{"mode": "rounds", "sparsities": [0.5]}]}}})

    def write(self, params: dict[str, Any]) -> None:
        self.params = params
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Without archives of ILSVRC2012, a mirror or anything in a cache."""
        programs = Path(sys.executable).parent
        place = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "RATEBENCH_CACHE": str(self.folder / ".cache"),
            "RATEBENCH_MIRROR": str(self.folder / "no-mirror"),
            "RATEBENCH_IMAGENET": "",
            "DVC_SITE_CACHE_DIR": str(self.folder / ".cache"),
            "OMP_NUM_THREADS": "1",
        }
        command, options = [programs / "dvc", *arguments], {"cwd": self.folder, "env": os.environ | place}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload,no-any-return]

    def stale(self) -> set[str]:
        """The stages of the digits suite that `dvc repro digits` would run."""
        return set(json.loads(self.dvc("status", "--json", "--with-deps", "digits").stdout))


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Copy, subprocess.CompletedProcess[str]]:
    copy = Copy(tmp_path_factory.mktemp("copy"))
    return copy, copy.dvc("repro", "-k", "digits", "imagenet")


@pytest.fixture
def copy(reproduced: tuple[Copy, object]) -> Iterator[Copy]:
    """The copy as it was reproduced, and put back afterwards."""
    known, params = reproduced[0], reproduced[0].params
    yield known
    known.write(params)


def test_missing_archives_are_named_and_the_other_suites_run(
    reproduced: tuple[Copy, subprocess.CompletedProcess[str]],
) -> None:
    copy, done = reproduced
    said = done.stdout + done.stderr
    assert done.returncode != 0
    places = ", ".join(f"data/ILSVRC2012_{name}" for name in ("img_train.tar", "img_val.tar", "devkit_t12.tar.gz"))
    assert f"missing: {places}; download from image-net.org (registration) and put there" in said
    assert (copy.reports / "digits" / "index.html").is_file() and not (copy.reports / "imagenet").exists()


def test_what_is_up_to_date_is_not_run_again(copy: Copy) -> None:
    results = {path: path.stat().st_mtime_ns for path in (copy.folder / "results").rglob("*.json")}
    done = copy.dvc("repro", "digits")
    assert done.returncode == 0 and "Running stage" not in done.stdout and results
    assert {path: path.stat().st_mtime_ns for path in (copy.folder / "results").rglob("*.json")} == results


def test_a_change_of_a_method_makes_its_own_stage_stale_and_the_report(copy: Copy) -> None:
    code = copy.folder / "methods" / "baselines" / "reference.py"
    before = code.read_bytes()
    code.write_bytes(before + b"\nCHANGED = True\n")
    assert copy.stale() == {REFERENCE, "digits"}
    code.write_bytes(before)
    assert copy.stale() == set()


def test_a_method_that_is_added_makes_no_other_stage_stale(copy: Copy) -> None:
    copy.write(copy.params | {"digits": copy.params["digits"] | {"baselines": ["reference", "uniform"]}})
    assert copy.stale() == {"digits-baselines@uniform-digits_cnn"}


def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return found


@pytest.mark.parametrize("name", ["digits", "cifar10", "imagenet-sample", "imagenet"])
def test_a_stage_depends_on_all_code_that_its_cells_depend_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plan._params.cache_clear()
    suite = plan.get(name)
    for kind, keys in (("methods", suite.methods), ("baselines", suite.baselines)):
        deps = stages()[f"{name}-{kind}"]["deps"]
        for key in keys:
            places = [ROOT / dep.replace("${item.method}", key) for dep in deps]
            for network in suite.networks:
                architecture = tasks.load(suite.task, network).architecture
                named = (f"benchmarks/tasks/{suite.task}.py", f"benchmarks/networks/{architecture}.py")
                used = sources(methods.source(key), *plan.SCORING, *named) - {ROOT / "benchmarks" / "__init__.py"}
                assert [f for f in used if not any(f.is_relative_to(place) for place in places)] == [], (kind, key)
