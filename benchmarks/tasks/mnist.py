"""`mnist`: the official 60,000 + 10,000 handwritten digits of 28 × 28 pixels (LeCun, Cortes, Burges).

The validation split is 5,000 training images, chosen with a fixed seed. `lenet5` is a public checkpoint that was trained on all
60,000; the other networks are trained on this machine, without the validation split.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from torch import Tensor

from benchmarks import storage
from benchmarks.data import download, idx
from benchmarks.data.download import RemoteFile
from benchmarks.tasks.kinds import metrics, trained
from benchmarks.tasks.kinds.classification import Classification, ClassificationTest, cut
from methods.interface import Augmentation, Json, Split

VALIDATION = 5_000
ITEMS, METRICS = (55_000, 10_000), metrics.classification(10)
_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
FILES = {name: RemoteFile(f"mnist/{name}.gz", f"{_ADDRESS}{name}.gz", f"md5:{md5}") for name, md5 in _MD5.items()}
# JJGO/shrinkbench-models, as checked in at 5fc1ced.
CHECKPOINT = RemoteFile(
    "mnistnet.pt",
    "https://github.com/JJGO/shrinkbench-models/raw/5fc1ced/mnist/mnistnet.pt",
    "sha256:5e1e80e145773c6ea30cb93dfc7d23fb87fd4116ff24e6889fdcb96a577190c9",
)
NETWORKS: dict[str, tuple[str, Mapping[str, Json]]] = {  # architecture and its arguments
    "lenet5": ("lenet5", {}),
    "lenet_300_100": ("mlp", {"widths": [784, 300, 100, 10]}),
}


def official(name: str, items: int) -> Split:
    """Images uint8 (N, 1, 28, 28) and labels (N,) of one official part: "train" or "t10k"."""
    images = idx.read(download.fetch(FILES[f"{name}-images-idx3-ubyte"]), items, 28, 28)
    labels = idx.read(download.fetch(FILES[f"{name}-labels-idx1-ubyte"]), items)
    return Split(images.unsqueeze(1), labels.long())


@functools.cache
def _splits() -> tuple[Split, Split]:
    whole = official("train", 60_000)
    validation, train = cut(whole.inputs, whole.targets, VALIDATION, len(whole) - VALIDATION)
    return train, validation


def _state(network: str) -> Mapping[str, Tensor]:
    if network == "lenet5":
        return storage.load_tensors(download.fetch(CHECKPOINT))
    return trained.state("mnist", network)


def task(network: str) -> Classification:
    """The task as a method sees it."""
    architecture, arguments = NETWORKS[network]
    return Classification(
        name="mnist",
        network=network,
        architecture=architecture,
        arguments=arguments,
        metrics=METRICS,
        mean=(0.1307,),
        std=(0.3081,),
        augmentation=Augmentation(),
        load_splits=_splits,
        load_state=lambda: _state(network),
    )


def test(network: str) -> ClassificationTest:
    return ClassificationTest(task(network), test_split, (1, 28, 28), ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    return [*FILES.values(), *([CHECKPOINT] if network in (None, "lenet5") else [])]


def provenance(network: str) -> dict[str, str]:
    data = {name: file.known_hash for name, file in FILES.items()}
    return data | ({"reference": CHECKPOINT.known_hash} if network == "lenet5" else trained.PROVENANCE)


def cached_reference(network: str) -> Mapping[str, Tensor] | None:
    return trained.cached("mnist", network)


@functools.cache
def test_split() -> Split:
    return official("t10k", 10_000)
