"""The networks that papers measure on CIFAR, the task `cifar100`, and the recipes of their references."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import networks, tasks, training
from benchmarks.data.vision import datasets
from benchmarks.errors import TaskError
from benchmarks.evaluation import measure
from benchmarks.fingerprint import ROOT
from benchmarks.running import params, references
from benchmarks.tasks import cifar10, cifar100

# Multiply-accumulates of convolutions and linear layers, as papers print them, and parameters.
KNOWN = [
    ("cifar_vgg", {"depth": 16}, 313.20e6, 14.72e6),  # HRank: 313.73 M with BatchNorm
    ("cifar_densenet", {"depth": 40}, 282.92e6, 1.06e6),  # HRank: 282.92 M
    # From bit operations of 32 bit by 32 bit.
    ("cifar_preact_resnet", {"depth": 20, "classes": 100}, 41798.6e6 / 1024, 0.278e6),
    ("cifar_preact_resnet", {"depth": 56, "classes": 100}, 128771.7e6 / 1024, 0.86e6),
    ("resnet", {"depth": 18, "classes": 10, "stem": "cifar"}, 11.108e8 / 2, 11.17e6),  # two FLOPs for each
    ("resnet", {"depth": 34, "classes": 10, "stem": "cifar"}, 23.188e8 / 2, 21.28e6),
    ("resnet", {"depth": 50, "classes": 10, "stem": "cifar"}, 25.957e8 / 2, 23.52e6),
]


@pytest.mark.parametrize(("name", "arguments", "macs", "parameters"), KNOWN)
def test_a_network_has_the_size_that_papers_print(
    name: str, arguments: dict[str, Any], macs: float, parameters: float
) -> None:
    network = networks.build(name, arguments).eval()
    assert measure.macs(network, torch.zeros(1, 3, 32, 32)) == pytest.approx(macs, rel=2e-4)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=5e-3)


@pytest.mark.parametrize("name", ["cifar_vgg", "cifar_densenet", "cifar_preact_resnet"])
@pytest.mark.parametrize(
    "change", [{"depth": 21}, {"depth": 10**9}, {"classes": 0}, {"classes": 2**60}, {"classes": 2.5}]
)
def test_a_network_of_another_size_is_refused(name: str, change: dict[str, Any]) -> None:
    depth = {"cifar_vgg": 16, "cifar_densenet": 40, "cifar_preact_resnet": 20}[name]
    with pytest.raises(networks.NetworkError, match="has to be"):
        networks.build(name, {"depth": depth, **change})


def test_every_reference_without_a_checkpoint_has_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    counted = 0
    for task in set(tasks.names()) - {"digits"}:  # digits trains its own without a recipe
        for network in tasks.get(task).NETWORKS:
            if references.trained_here(task, network):
                assert params.recipe(task, network) is not None, (task, network)
                counted += 1
    assert counted > 30
    recipe = params.recipe("cifar100", "resnet50")
    assert recipe is not None and recipe.made() == training.Recipe(
        300, 0.1, 128, training.SGD(0.9, 5e-4), training.Multistep((140, 200, 250)), decay_norm=False
    )


@pytest.fixture
def few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder in the format of the official archive, with few images; in torchvision's lists and the task's, their hashes."""
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("RATEBENCH_MIRROR", raising=False)
    random, folder = np.random.default_rng(0), tmp_path / "cifar-100-python"
    folder.mkdir()
    known: dict[str, Any] = {}
    for name, count in (("train", 6000), ("test", 30)):
        known[name] = {
            "data": random.integers(0, 256, (count, 3072), dtype=np.uint8),
            "fine_labels": random.integers(0, 100, count).tolist(),
            "coarse_labels": [0] * count,
        }
    contents = {**known, "meta": {"fine_label_names": [str(i) for i in range(100)]}}
    hashes = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        hashes[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    members = {f"cifar-100-python/{name}": f"md5:{digest}" for name, digest in hashes.items()}
    monkeypatch.setattr(cifar100, "ARCHIVE", replace(cifar100.ARCHIVE, members=members))
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", hashes["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", hashes["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": hashes["meta"]})
    cifar100._splits.cache_clear(), cifar100.test_split.cache_clear()
    yield known
    cifar100._splits.cache_clear(), cifar100.test_split.cache_clear()


def test_cifar100_has_the_fine_labels_and_its_images(few_images: dict[str, Any]) -> None:
    """Wrong code that this finds: twenty coarse labels, channels last, a validation split that is trained on."""
    task, test = tasks.load("cifar100", "resnet20"), cifar100.test_split()
    assert test.targets.tolist() == few_images["test"]["fine_labels"]
    assert np.array_equal(test.inputs.numpy().reshape(30, -1), few_images["test"]["data"])
    assert (len(task.train), len(task.validation)) == (1000, 5000)
    rows = {image.tobytes() for split in (task.train, task.validation) for image in split.inputs.numpy()}
    assert rows == {image.tobytes() for image in few_images["train"]["data"]}
    outputs = torch.zeros(2, 100)
    outputs[0, test.targets[0]] = 1
    outputs[1, [i for i in range(100) if i != test.targets[1]][:5]] = 1
    found = task.scores(outputs, test.targets[:2])
    assert {name: values.tolist() for name, values in found.items()} == {"top-1": [True, False], "top-5": [True, False]}


@pytest.mark.parametrize(("task", "network"), [("cifar100", "vgg19"), ("cifar10", "resnet34")])
def test_a_reference_that_is_not_trained_is_named(task: str, network: str) -> None:
    with pytest.raises(TaskError, match=f"`ratebench train {task} {network}` trains it"):
        tasks.load(task, network).reference()


def test_cifar10_has_public_references_and_those_that_are_trained_here() -> None:
    """Only the former are downloaded."""
    assert [len(cifar10.files(network)) for network in ("resnet20", "densenet40")] == [2, 1]
    assert cifar10.provenance("resnet20")["reference"].startswith("sha256:")
    assert "ratebench train" in cifar10.provenance("vgg16")["reference"]
    assert [references.trained_here("cifar10", network) for network in ("resnet110", "resnet50")] == [False, True]
