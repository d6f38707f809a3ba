"""The official archives of CIFAR-10 and CIFAR-100, read by torchvision."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks import storage
from benchmarks.data import download
from benchmarks.data.download import RemoteFile


def part(archive: RemoteFile, dataset: Literal["CIFAR10", "CIFAR100"], train: bool) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and (fine) labels int64 (N,) of one official part; downloads the archive if necessary."""
    from benchmarks.data.vision import datasets

    download.fetch(archive)
    data = getattr(datasets, dataset)(str(storage.cache_folder()), train=train)
    images = torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
    return images, torch.tensor(data.targets)
