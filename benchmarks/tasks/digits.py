"""`digits`: 1,797 handwritten digits of 8×8 pixels that ship with scikit-learn; the embedded default task, without downloads.

The references are a small CNN and a small ResNet, each trained once on this machine with a fixed seed (in seconds) and
stored in the cache folder.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks import networks, storage
from benchmarks.data.download import RemoteFile
from benchmarks.errors import DamagedFile
from benchmarks.fingerprint import code_hash, sources
from benchmarks.seeds import generator
from benchmarks.tasks.kinds import metrics
from benchmarks.tasks.kinds.classification import Classification, ClassificationTest, cut
from benchmarks.training import Recipe, fit
from methods.interface import Augmentation, Budget, Split

NETWORKS = {  # architecture and its arguments
    "digits_cnn": ("digits_cnn", {"width": 16, "classes": 10}),
    "digits_resnet": ("digits_resnet", {"width": 8, "blocks": 3, "classes": 10}),
}
SIZES = (1197, 200, 400)  # train, validation, test
ITEMS, METRICS = (SIZES[0], SIZES[2]), metrics.classification(10)
RECIPE = Recipe(epochs=30, lr=0.05)


@functools.cache
def _splits() -> list[Split]:
    bunch = load_digits()
    images = torch.from_numpy((bunch.images * (255 / 16)).round()).to(torch.uint8).unsqueeze(1)
    return cut(images, torch.from_numpy(bunch.target).long(), *SIZES)


class _ReferenceRun:
    """The run that trains the reference: no budget limit and no checkpoints, since it takes seconds."""

    seed = 0
    device = torch.device("cpu")
    budget = Budget("paper", None)

    def generator(self, *names: str | int) -> torch.Generator:
        return generator("digits reference", *names)

    def checkpoint(self, stage: str, state: Mapping[str, object]) -> None:
        pass

    def restore(self, stage: str) -> None:
        return None

    def progress(self, message: str) -> None:
        pass


def _cached(network: str) -> Path:
    """The file of a trained reference; its name contains a hash of the code that trains it."""
    code = code_hash(sources(__name__, f"benchmarks.networks.{NETWORKS[network][0]}"))
    return storage.cache_folder() / "digits" / f"{network}-{code[:12]}.pt"


def cached_reference(network: str) -> Mapping[str, Tensor] | None:
    """The reference's tensors if this machine has trained it; None if it has not, or if the file holds anything else."""
    path = _cached(network)
    try:
        found = storage.load_own(path, "it is trained again") if path.exists() else {}
    except DamagedFile:
        return None
    with torch.device("meta"):
        expected = networks.build(*NETWORKS[network]).state_dict()
    fits = found.keys() == expected.keys() and all(found[name].shape == expected[name].shape for name in expected)
    return found if fits else None


def _train(task: Classification) -> Mapping[str, Tensor]:
    known = cached_reference(task.network)
    if known is not None:
        return known
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = networks.build(task.architecture, task.arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with several threads, sums and therefore the reference would differ in their last bits
    try:
        fit(network, task, _ReferenceRun(), RECIPE, "reference")
    finally:
        torch.set_num_threads(threads)
    storage.save_tensors(_cached(task.network), network.state_dict())
    return network.state_dict()


def task(network: str) -> Classification:
    """The task as a method sees it."""
    made = Classification(
        name="digits",
        network=network,
        architecture=NETWORKS[network][0],
        arguments=NETWORKS[network][1],
        metrics=METRICS,
        mean=(0.5,),
        std=(0.5,),
        augmentation=Augmentation(padding=1),
        load_splits=lambda: (_splits()[0], _splits()[1]),
        load_state=lambda: _train(made),
    )
    return made


def test(network: str) -> ClassificationTest:
    return ClassificationTest(task(network), test_split, (1, 8, 8), ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    return []


def provenance(network: str) -> dict[str, str]:
    return {"data": "scikit-learn load_digits", "reference": "trained on this machine, fixed seed"}


def test_split() -> Split:
    return _splits()[2]
