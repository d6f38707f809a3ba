"""Tasks with some classes of MNIST, for networks of random layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from benchmarks.tasks import mnist
from benchmarks.tasks.kinds.classification import cut
from benchmarks.tasks.kinds.random_features import Family
from methods.interface import Split


def family(name: str, classes: Sequence[int], items: tuple[int, int], hidden: Sequence[tuple[int, ...]]) -> Family:
    """The rising `classes` with labels from 0. `items` are the numbers for training and for the test.

    A fixed seed draws the training items from the official training set, whose others are the validation split. The test items
    are all official ones of the classes.
    """
    known = torch.tensor(classes)

    def chosen(part: str, whole: int) -> Split:
        split = mnist.official(part, whole)
        kept = torch.isin(split.targets, known)
        return Split(split.inputs[kept], torch.searchsorted(known, split.targets[kept]))

    @functools.cache
    def load() -> tuple[Split, Split]:
        split = chosen("train", 60_000)
        train, validation = cut(split.inputs, split.targets, items[0], len(split) - items[0])
        return train, validation

    @functools.cache
    def load_test() -> Split:
        return chosen("t10k", 10_000)

    files = tuple(mnist.FILES.values())
    return Family(name, (1, 28, 28), len(classes), tuple(hidden), items, load, load_test, files)
