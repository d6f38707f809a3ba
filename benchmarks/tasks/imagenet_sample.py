"""`imagenet_sample`: 1,300 labelled validation images of ILSVRC2012 at 227 × 227 pixels, for trying methods for ImageNet.

They are **easier than the full validation set** (MobileNet-V1 0.75 has 77.6 % here and a published 68.4 % on all 50,000):
an accuracy on them is not an ImageNet accuracy. All of them are scored. For calibration, there are random crops of the 24
photographs of the Kodak suite, which have no labels; there are no images for training or validation.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import storage
from benchmarks.data import download, kodak
from benchmarks.data.download import RemoteFile
from benchmarks.data.images import Pictures, centred, cropped
from benchmarks.errors import TaskError
from benchmarks.tasks.kinds import metrics
from benchmarks.tasks.kinds.classification import Classification, ClassificationTest
from methods.interface import Augmentation, Split

FOLDER = "imagenet-val1300"
SHA256 = "dbe2e9819ed5eb5e6a7e0b0dc8b3245644352202c8a271b6c7eae94b1c2f15e8"
SIDE = 224
CROPS, SMALLEST = 30, 0.35  # of each photograph, and the least share of its area
ITEMS, METRICS = (0, 1_300), metrics.classification(1000)
WEIGHTS = RemoteFile(
    "mobilenet_v1_0.75_224.safetensors",
    "",
    "sha256:9690c20e4e7aa520f658a97bd22dd55b01c1c6aa53d06c942b86b8aafae8aa4f",
)
NETWORKS = {"mobilenet_v1_0.75": WEIGHTS}


@functools.cache
def folder() -> Path:
    """The folder of the images, checked by its hash; raises TaskError if it is missing or has another hash."""
    mirror = os.environ.get("RATEBENCH_MIRROR", "")
    found = storage.expanded(mirror, "RATEBENCH_MIRROR") / FOLDER
    if not mirror or not found.is_dir():
        msg = f"imagenet_sample needs the folder {FOLDER}, which can't be downloaded: set RATEBENCH_MIRROR to where it lies"
        raise TaskError(msg)
    digest = hashlib.sha256()
    for path in sorted(found.iterdir()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    if digest.hexdigest() != SHA256:
        msg = f"{found} is not the sample that this suite knows (hash {digest.hexdigest()}, not {SHA256}): unpack it again"
        raise TaskError(msg)
    return found


def listed() -> tuple[list[Path], Tensor]:
    """All images and their classes."""
    with (folder() / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [folder() / row["file"] for row in rows], torch.tensor([int(row["class_index"]) for row in rows])


@functools.cache
def test_split() -> Split:
    paths, classes = listed()
    return Split(Pictures(paths, centred(SIDE)), classes)  # type: ignore[arg-type]  # indexed like a tensor


def _none() -> tuple[Split, Split]:
    msg = (
        "imagenet_sample has no labelled images but the 1,300 that are scored: "
        "methods that train, or that need labels, can't run on it"
    )
    raise TaskError(msg)


def _calibration() -> Split:
    """Crops that are the same in every run, without labels (−1)."""
    crops = [path for path in kodak.photographs() for _ in range(CROPS)]
    views = Pictures(crops, cropped(SIDE, SMALLEST))
    return Split(views, torch.full((len(crops),), -1))  # type: ignore[arg-type]  # indexed like a tensor


def _load() -> Mapping[str, Tensor]:
    return storage.load_tensors(download.fetch(WEIGHTS))


def task(network: str) -> Classification:
    """The task as a method sees it."""
    return Classification(
        name="imagenet_sample",
        network=network,
        architecture="mobilenet_v1",
        arguments={"width": 0.75},
        metrics=METRICS,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        augmentation=Augmentation(flip=True),
        load_splits=_none,
        load_state=_load,
        load_calibration=_calibration,
    )


def test(network: str) -> ClassificationTest:
    return ClassificationTest(task(network), test_split, (3, SIDE, SIDE), ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    return [WEIGHTS, *kodak.FILES]


def provenance(network: str) -> dict[str, str]:
    calibration = hashlib.sha256("".join(file.known_hash for file in kodak.FILES).encode()).hexdigest()
    return {"data": f"sha256:{SHA256}", "calibration": f"sha256:{calibration}", "reference": WEIGHTS.known_hash}
