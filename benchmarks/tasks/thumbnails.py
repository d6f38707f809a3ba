"""`thumbnails`: two photographs of 96 × 64 pixels that ship with scikit-learn: image coding without downloads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from sklearn.datasets import load_sample_image
from torch import Tensor

from benchmarks.data.download import RemoteFile
from benchmarks.tasks.kinds import pictures, trained
from benchmarks.tasks.kinds.pictures import Picture, PictureTest

ITEMS, METRICS = pictures.ITEMS, pictures.METRICS
SIZE, REDUCED = (64, 96), 6  # pixels of a side become one
WIDTH, FREQUENCIES = 16, 8
NETWORKS = {"china": "china.jpg", "flower": "flower.jpg"}


def _pixels(network: str) -> Tensor:
    """The means of blocks of the photograph's upper left part, uint8 (64, 96, 3)."""
    whole = torch.tensor(load_sample_image(NETWORKS[network]))[: SIZE[0] * REDUCED, : SIZE[1] * REDUCED]
    blocks = whole.view(SIZE[0], REDUCED, SIZE[1], REDUCED, 3).double()
    return blocks.mean((1, 3)).round().to(torch.uint8)


def task(network: str) -> Picture:
    """The task as a method sees it."""
    return pictures.picture(
        "thumbnails",
        network,
        SIZE,
        WIDTH,
        FREQUENCIES,
        lambda: _pixels(network),
        lambda: trained.state("thumbnails", network),
    )


def test(network: str) -> PictureTest:
    return PictureTest(task(network))


def files(network: str | None = None) -> list[RemoteFile]:
    return []


def provenance(network: str) -> dict[str, str]:
    return {"data": f"scikit-learn {NETWORKS[network]}", **trained.PROVENANCE}


def cached_reference(network: str) -> Mapping[str, Tensor] | None:
    return trained.cached("thumbnails", network)
