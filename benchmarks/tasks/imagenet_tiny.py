"""`imagenet_tiny`: 800 images of the sample in three splits, to check that ImageNet cells run; accuracies are meaningless."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from benchmarks.data.download import RemoteFile
from benchmarks.data.images import Pictures, centred, cropped
from benchmarks.tasks import imagenet_sample
from benchmarks.tasks.kinds.classification import SPLIT_SEED, Classification, ClassificationTest
from methods.interface import Split

NETWORKS = imagenet_sample.NETWORKS
SIZES = (500, 200, 100)  # train, validation, test
ITEMS, METRICS = (SIZES[0], SIZES[2]), imagenet_sample.METRICS


@functools.cache
def _splits() -> tuple[Split, Split, Split]:
    paths, classes = imagenet_sample.listed()
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(SPLIT_SEED))

    def split(chosen: torch.Tensor) -> Split:
        side = imagenet_sample.SIDE
        images = Pictures([paths[i] for i in chosen.tolist()], centred(side), cropped(side))
        return Split(images, classes[chosen])  # type: ignore[arg-type]  # indexed like a tensor

    train, validation, test = SIZES
    return split(order[:train]), split(order[-validation - test : -test]), split(order[-test:])


def test_split() -> Split:
    return _splits()[2]


def task(network: str) -> Classification:
    """The task as a method sees it."""
    sample = imagenet_sample.task(network)
    return replace(sample, name="imagenet_tiny", load_splits=lambda: _splits()[:2], load_calibration=None)


def test(network: str) -> ClassificationTest:
    return replace(imagenet_sample.test(network), task=task(network), load=test_split, items=ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    return [imagenet_sample.WEIGHTS]


def provenance(network: str) -> dict[str, str]:
    known = imagenet_sample.provenance(network)
    return {name: known[name] for name in ("data", "reference")}
