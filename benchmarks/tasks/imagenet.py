"""`imagenet`: ILSVRC2012 and torchvision's own trained networks.

The test set is the official validation set of 50,000 images; the validation set is 50 training images of each class, chosen
with a fixed seed. Images are decoded when they are needed: resized to 256, center crop of 224; random crops for training.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import storage
from benchmarks.data import download, ilsvrc, ilsvrc_folders
from benchmarks.data.download import RemoteFile
from benchmarks.data.images import Pictures, centred, cropped
from benchmarks.tasks.kinds import metrics
from benchmarks.tasks.kinds.classification import SPLIT_SEED, Classification, ClassificationTest
from methods.interface import Augmentation, Json, Split

PER_CLASS = 50  # images per class held out of the training set for validation
SIDE, RESIZE = 224, 256
CLASSES = len(ilsvrc_folders.SYNSETS)
ITEMS = (ilsvrc_folders.IMAGES["train"] - CLASSES * PER_CLASS, ilsvrc_folders.IMAGES["val"])
METRICS = metrics.classification(CLASSES)
_WEIGHTS = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Network:
    architecture: str
    arguments: Mapping[str, Json]
    file: RemoteFile


def _network(name: str, sha256: str, mebibytes: int, architecture: str, **arguments: Json) -> tuple[str, Network]:
    """`mebibytes` is the size of the file, rounded up."""
    file = f"{name}-{sha256[:8]}.pth"
    remote = RemoteFile(file, _WEIGHTS + file, f"sha256:{sha256}", most=mebibytes << 20)
    return name, Network(architecture, arguments, remote)


# The full hash where several projects publish it independently; otherwise the eight digits in the file's name, as torch.hub
# checks them.
NETWORKS = dict(
    (
        _network(
            "resnet18", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 45, "resnet", depth=18
        ),
        _network(
            "resnet34", "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f", 84, "resnet", depth=34
        ),
        _network(
            "resnet50", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a", 98, "resnet", depth=50
        ),
        _network("vgg11_bn", "6002323d", 507, "vgg", depth=11, norm=True),
        _network(
            "vgg16",
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            528,
            "vgg",
            depth=16,
            norm=False,
        ),
        _network(
            "mobilenet_v2", "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889", 14, "mobilenet_v2"
        ),
    )
)


@functools.cache
def _splits() -> tuple[Split, Split]:
    paths, classes = ilsvrc_folders.listed(ilsvrc.folder() / "train")
    labels = torch.tensor(classes)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    cut = torch.zeros(len(labels), dtype=torch.bool)
    for number in labels.unique():
        cut[order[labels[order] == number][:PER_CLASS]] = True

    def split(chosen: Tensor) -> Split:
        images = Pictures([paths[i] for i in chosen.tolist()], centred(SIDE, RESIZE), cropped(SIDE))
        return Split(images, labels[chosen])  # type: ignore[arg-type]  # indexed like a tensor

    return split(order[~cut[order]]), split(order[cut[order]])


@functools.cache
def test_split() -> Split:
    paths, classes = ilsvrc_folders.listed(ilsvrc.folder() / "val")
    return Split(Pictures(paths, centred(SIDE, RESIZE)), torch.tensor(classes))  # type: ignore[arg-type]


def prepare(say: Callable[[str], None]) -> None:
    """Unpack the archives into the cache folder, or check the folder in RATEBENCH_IMAGENET and sort its images if necessary.

    Raises TaskError or StorageError.
    """
    if os.environ.get("RATEBENCH_IMAGENET"):
        ilsvrc.arrange(ilsvrc.folder(), say)
    else:
        ilsvrc.prepare(storage.cache_folder() / "ILSVRC2012", say)
    found = {part: len(ilsvrc_folders.listed(ilsvrc.folder() / part)[0]) for part in ("train", "val")}
    say(f"{ilsvrc.folder()}: {found['train']:,} images for training, {found['val']:,} for scoring")


def task(network: str) -> Classification:
    """The task as a method sees it."""
    known = NETWORKS[network]
    return Classification(
        name="imagenet",
        network=network,
        architecture=known.architecture,
        arguments=known.arguments,
        metrics=METRICS,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augmentation=Augmentation(flip=True),
        load_splits=_splits,
        load_state=lambda: storage.load_tensors(download.fetch(known.file)),
    )


def test(network: str) -> ClassificationTest:
    return ClassificationTest(task(network), test_split, (3, SIDE, SIDE), ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    return [known.file for name, known in NETWORKS.items() if network in (None, name)]


def provenance(network: str) -> dict[str, str]:
    """The hashes of the archives; a given unpacked folder is assumed to have the same contents."""
    pins = json.dumps({name: archive.md5 for name, archive in ilsvrc.pinned().items()})
    return {"data": f"ILSVRC2012 {pins}", "reference": NETWORKS[network].file.known_hash}
