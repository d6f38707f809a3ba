"""`cifar100`: the official 50,000 + 10,000 images of 32 × 32 pixels in 100 classes (Krizhevsky 2009).

The validation split is 5,000 training images, chosen with a fixed seed. All references are trained on this machine, without it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from torch import Tensor

from benchmarks.data import cifar
from benchmarks.data.download import RemoteFile
from benchmarks.tasks.kinds import metrics, trained
from benchmarks.tasks.kinds.classification import Classification, ClassificationTest, cut
from methods.interface import Augmentation, Json, Split

CLASSES = 100
VALIDATION = 5_000
ITEMS, METRICS = (45_000, 10_000), metrics.classification(CLASSES)
_FOLDER = "cifar-100-python"
ARCHIVE = RemoteFile(
    "cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "md5:eb9058c3a382ffc7106e4002c42a8d85",
    members={
        f"{_FOLDER}/train": "md5:16019d7e3df5f24257cddd939b257f8d",
        f"{_FOLDER}/test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
        f"{_FOLDER}/meta": "md5:7973b15100ade9c7d40fb424638fde48",
    },
)
NETWORKS: dict[str, tuple[str, Mapping[str, Json]]] = {  # architecture and its arguments, beside the number of classes
    "resnet20": ("cifar_resnet", {"depth": 20}),
    "resnet56": ("cifar_resnet", {"depth": 56}),
    "preact_resnet20": ("cifar_preact_resnet", {"depth": 20}),
    "preact_resnet56": ("cifar_preact_resnet", {"depth": 56}),
    "resnet18": ("resnet", {"depth": 18, "stem": "cifar"}),
    "resnet34": ("resnet", {"depth": 34, "stem": "cifar"}),
    "resnet50": ("resnet", {"depth": 50, "stem": "cifar"}),
    "vgg19": ("cifar_vgg", {"depth": 19}),
}


@functools.cache
def _splits() -> tuple[Split, Split]:
    images, labels = cifar.part(ARCHIVE, "CIFAR100", train=True)
    validation, train = cut(images, labels, VALIDATION, len(labels) - VALIDATION)
    return train, validation


def task(network: str) -> Classification:
    """The task as a method sees it."""
    architecture, arguments = NETWORKS[network]
    return Classification(
        name="cifar100",
        network=network,
        architecture=architecture,
        arguments={**arguments, "classes": CLASSES},
        metrics=METRICS,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        augmentation=Augmentation(padding=4, flip=True),
        load_splits=_splits,
        load_state=lambda: trained.state("cifar100", network),
    )


def test(network: str) -> ClassificationTest:
    return ClassificationTest(task(network), test_split, (3, 32, 32), ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    return [ARCHIVE]


def provenance(network: str) -> dict[str, str]:
    return {"data": ARCHIVE.known_hash, **trained.PROVENANCE}


def cached_reference(network: str) -> Mapping[str, Tensor] | None:
    return trained.cached("cifar100", network)


@functools.cache
def test_split() -> Split:
    return Split(*cifar.part(ARCHIVE, "CIFAR100", train=False))
