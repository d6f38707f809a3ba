"""The road of ImageNet from archives to a report, on three small classes, and the whole suite on a few real images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_ilsvrc
import test_pictures
import test_runner
import torch
from safetensors.torch import save_file
from test_runner import Laboratory

import methods
from benchmarks import fingerprint, networks, records, tasks
from benchmarks.running import params, plan
from benchmarks.tasks import imagenet
from benchmarks.training.scratch import initialise
from methods.interface import CLASSIFICATION

laboratory = test_runner.laboratory
pins = test_ilsvrc.pins
BUDGETS = {"post-training": {"epochs": 0}, "short": {"epochs": 1.0}}
SUITE = {
    "task": "imagenet",
    "networks": ["mobilenet_v2"],
    "methods": ["uniform", "reference"],
    "seeds": [0],
}


def with_random_weights(name: str, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a network of the task into the mirror, untrained."""
    known = imagenet.NETWORKS[name]
    network = networks.build(known.architecture, known.arguments)
    initialise(network, torch.Generator().manual_seed(0))
    mirror.mkdir(exist_ok=True)
    file = mirror / f"{name}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    remote = replace(known.file, name=file.name, url="", known_hash=f"sha256:{digest}")
    monkeypatch.setitem(imagenet.NETWORKS, name, replace(known, file=remote))


@pytest.fixture
def replication(laboratory: Laboratory, pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    """A checkout with archives, a mirror with the weights of a network, and a suite of two methods."""
    with_random_weights("mobilenet_v2", tmp_path / "mirror", monkeypatch)
    monkeypatch.setenv("RATEBENCH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(imagenet, "PER_CLASS", 2)
    monkeypatch.setattr(imagenet, "ITEMS", (6, 6))
    imagenet._splits.cache_clear()
    imagenet.test_split.cache_clear()
    configs = {"post-training": {"uniform": [{"steps": [0.2, 0.4], "recalibrate": 4}]}}
    laboratory.configure(imagenet=SUITE, budgets=BUDGETS, configs=configs)
    return laboratory


def test_from_archives_to_a_report(replication: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    assert replication.ratebench("run", "imagenet", "-m", "uniform") == 1
    assert "ILSVRC2012 is not unpacked yet: run `ratebench prepare imagenet`" in capsys.readouterr().out
    assert replication.ratebench("prepare", "imagenet", "--note", "data/imagenet/prepared.json") == 0
    assert (
        replication.ratebench("fetch", "imagenet", "-n", "mobilenet_v2", "--note", "data/imagenet/mobilenet_v2.json")
        == 0
    )
    notes = [
        json.loads((replication.folder / "data/imagenet" / f"{n}.json").read_text())
        for n in ("prepared", "mobilenet_v2")
    ]
    assert "ILSVRC2012_img_val.tar" in notes[0]["data"] and notes[1]["mobilenet_v2.safetensors"].startswith("sha256:")
    assert replication.ratebench("run", "imagenet") == 0
    known = list(records.load(replication.results, "imagenet"))
    assert [(r.method, r.quality.items) for r in known] == [
        ("reference", 6),
        ("reference", 6),
        ("uniform", 6),
        ("uniform", 6),
    ]
    assert all("ILSVRC2012_img_val.tar" in r.provenance.data["data"] for r in known)
    assert replication.ratebench("report", "imagenet") == 0
    assert replication.ratebench("plan", "imagenet") == 0


def test_a_damaged_image_is_named(replication: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    assert replication.ratebench("prepare", "imagenet") == 0
    victim = sorted((replication.folder / "cache/ILSVRC2012/val").rglob("*.JPEG"))[3]
    victim.write_bytes(victim.read_bytes()[:200])
    assert replication.ratebench("run", "imagenet", "-m", "reference") == 1
    assert f"{victim} is a damaged image (" in capsys.readouterr().out


def test_low_rank_on_a_residual_network(
    replication: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MobileNet can't show it: its blocks repeat no layer. At raw fp32 the file is as small as the ranks promise."""
    with_random_weights("resnet18", tmp_path / "mirror", monkeypatch)
    low_rank = {"jsvd": [{"rates": [0.2]}, {"rates": [0.2], "scheme": "bijsvd", "recalibrate": 4}]}
    suite = SUITE | {"networks": ["resnet18"], "methods": ["jsvd"]}
    replication.configure(imagenet=suite, budgets=BUDGETS, configs={"post-training": low_rank})
    assert replication.ratebench("prepare", "imagenet") == 0
    assert replication.ratebench("run", "imagenet", "-a") == 0
    known = list(records.load(replication.results, "imagenet"))
    assert [(r.network, r.quality.items) for r in known] == [("resnet18", 6)] * 2
    for r in known:
        assert r.point["cf"] > 4 and r.rate.ratio == pytest.approx(r.point["cf"], rel=0.05)


def test_two_methods_on_a_few_real_images(laboratory: Laboratory) -> None:
    """What `nox -s imagenet -- --tiny` does with all of them and at more points; one is trained, too."""
    test_pictures.needs_the_sample()
    suite = {
        "task": "imagenet_tiny",
        "networks": ["mobilenet_v1_0.75"],
        "methods": ["surp", "uniform"],
        "seeds": [0],
    }
    configs = {
        "post-training": {
            "surp": [{"mode": "rounds", "sparsities": [0.3], "recalibrate": 64}],
            "uniform": [{"steps": [0.3], "recalibrate": 64}],
        },
        "short": {"surp": [{"mode": "rounds", "short_sparsities": [0.5]}]},
    }
    laboratory.configure(few=suite, budgets={**BUDGETS, "short": {"epochs": 0.128}}, configs=configs)
    assert laboratory.ratebench("run", "few") == 0
    assert laboratory.ratebench("run", "few", "-m", "surp", "-b", "short") == 0
    found = list(records.load(laboratory.results, "few"))
    assert [r.method for r in found] == ["surp"] * 2 + ["uniform"]
    assert all(r.quality.items == 100 for r in found)
    assert all(r.quality.total > 60 for r in found if r.budget == "post-training")  # 76 of 100 before


def test_every_method_is_in_the_small_suite_and_follows_its_papers_schedule_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(fingerprint.ROOT)
    params._params.cache_clear()
    large, small = (plan.cells(name, budget_name="paper") for name in ("imagenet", "imagenet-tiny"))
    assert {(c.method, c.config_hash) for c in small} == {(c.method, c.config_hash) for c in large}
    networks = [tasks.load("imagenet", network) for network in params.suite("imagenet").networks]
    able = {
        key
        for key in methods.names()
        if CLASSIFICATION in methods.get(key).CARD.kinds
        and any(methods.get(key).unsupported(network, methods.get(key).Config()) is None for network in networks)
    }
    assert able >= {"surp", "jsvd", "aq", "hierarchical", "psap"}
    for budget in ("post-training", "short"):
        assert {c.method for c in plan.cells("imagenet-tiny", budget_name=budget)} == able
    params._params.cache_clear()


def test_the_few_images_are_cut_in_three() -> None:
    test_pictures.needs_the_sample()
    task: Any = tasks.load("imagenet_tiny", "mobilenet_v1_0.75")
    test = tasks.get("imagenet_tiny").test_split()
    paths = [path for split in (task.train, task.validation, test) for path in split.inputs._paths]
    assert [len(split) for split in (task.train, task.validation, test)] == [500, 200, 100]
    assert len(set(paths)) == 800
