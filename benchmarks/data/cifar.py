"""The official images of CIFAR-10 and CIFAR-100, read by torchvision from the cache folder."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks import storage
from benchmarks.data import download
from benchmarks.data.download import RemoteFile


def part(archive: RemoteFile, name: Literal["CIFAR10", "CIFAR100"], train: bool) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and labels (N,) of one official part; the archive is fetched if needed."""
    from benchmarks.data.vision import datasets

    download.fetch(archive)
    data = getattr(datasets, name)(str(storage.cache_folder()), train=train)
    images = torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
    return images, torch.tensor(data.targets)
