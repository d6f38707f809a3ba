"""`cifar10`: the official 50,000 + 10,000 images and the public `akamaster` ResNets (He et al. 2016, option A).

The validation split is 5,000 training images, chosen with a fixed seed. The public references were trained on all 50,000. Other
networks of papers are trained on this machine, without the validation split.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from benchmarks import storage
from benchmarks.data import cifar, download
from benchmarks.data.download import RemoteFile
from benchmarks.errors import TaskError
from benchmarks.tasks.kinds import metrics, trained
from benchmarks.tasks.kinds.classification import Classification, ClassificationTest, cut
from methods.interface import Augmentation, Json, Split

VALIDATION = 5_000
ITEMS, METRICS = (45_000, 10_000), metrics.classification(10)
_CHECKPOINTS = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
_FOLDER = "cifar-10-batches-py"
ARCHIVE = RemoteFile(
    "cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "md5:c58f30108f718f92721af3b95e74349a",
    members={
        f"{_FOLDER}/data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
        f"{_FOLDER}/data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
        f"{_FOLDER}/data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
        f"{_FOLDER}/data_batch_4": "md5:634d18415352ddfa80567beed471001a",
        f"{_FOLDER}/data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
        f"{_FOLDER}/test_batch": "md5:40351d587109b95175f43aff81a1287e",
        f"{_FOLDER}/batches.meta": "md5:5ff9c542aee3614f3951f8cda6e48888",
    },
)


@dataclass(frozen=True)
class Reference:
    """An architecture with its arguments, and the public checkpoint; without one, it is trained on this machine."""

    architecture: str
    arguments: Mapping[str, Json]
    file: RemoteFile | None = None


def _checkpoint(depth: int, name: str, sha256: str) -> Reference:
    return Reference("cifar_resnet", {"depth": depth}, RemoteFile(name, _CHECKPOINTS + name, f"sha256:{sha256}"))


# The full hash where the file was available; otherwise the eight digits in the file's name, as torch.hub checks them.
NETWORKS: dict[str, Reference] = {
    "resnet20": _checkpoint(
        20, "resnet20-12fca82f.th", "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8"
    ),
    "resnet32": _checkpoint(32, "resnet32-d509ac18.th", "d509ac18"),
    "resnet44": _checkpoint(44, "resnet44-014dd654.th", "014dd654"),
    "resnet56": _checkpoint(
        56, "resnet56-4bfd9763.th", "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367"
    ),
    "resnet110": _checkpoint(110, "resnet110-1d1ed7c2.th", "1d1ed7c2"),
    "resnet18": Reference("resnet", {"depth": 18, "classes": 10, "stem": "cifar"}),
    "resnet34": Reference("resnet", {"depth": 34, "classes": 10, "stem": "cifar"}),
    "resnet50": Reference("resnet", {"depth": 50, "classes": 10, "stem": "cifar"}),
    "vgg16": Reference("cifar_vgg", {"depth": 16}),
    "vgg19": Reference("cifar_vgg", {"depth": 19}),
    "densenet40": Reference("cifar_densenet", {"depth": 40}),
}


@functools.cache
def _splits() -> tuple[Split, Split]:
    images, labels = cifar.part(ARCHIVE, "CIFAR10", train=True)
    validation, train = cut(images, labels, VALIDATION, len(labels) - VALIDATION)
    return train, validation


def _load(file: RemoteFile) -> Mapping[str, Tensor]:
    path = download.fetch(file)
    state = storage.load_tensors(path).get("state_dict")
    if not isinstance(state, Mapping):
        msg = f"{path} has no 'state_dict': it is not the checkpoint {file.url}"
        raise TaskError(msg)
    return {key.removeprefix("module."): value for key, value in state.items()}


def task(network: str) -> Classification:
    """The task as a method sees it."""
    known = NETWORKS[network]
    return Classification(
        name="cifar10",
        network=network,
        architecture=known.architecture,
        arguments=known.arguments,
        metrics=METRICS,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augmentation=Augmentation(padding=4, flip=True),
        load_splits=_splits,
        load_state=lambda: _load(known.file) if known.file else trained.state("cifar10", network),
    )


def test(network: str) -> ClassificationTest:
    return ClassificationTest(task(network), test_split, (3, 32, 32), ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    chosen = NETWORKS.values() if network is None else [NETWORKS[network]]
    return [ARCHIVE, *(known.file for known in chosen if known.file)]


def provenance(network: str) -> dict[str, str]:
    file = NETWORKS[network].file
    return {"data": ARCHIVE.known_hash, **({"reference": file.known_hash} if file else trained.PROVENANCE)}


def cached_reference(network: str) -> Mapping[str, Tensor] | None:
    return trained.cached("cifar10", network)


@functools.cache
def test_split() -> Split:
    return Split(*cifar.part(ARCHIVE, "CIFAR10", train=False))
