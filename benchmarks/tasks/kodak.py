"""`kodak`: the 24 photographs of the Kodak suite, 768 × 512 pixels or upright. A file is one photograph.

The networks `kodim01` … `kodim24` are sine networks of hidden width 32, fitted to one photograph each as in the paper;
`kodim01_48` is one of width 48. `kodim01_short` is fitted in less time, `kodim01_tiny` only to check that everything runs,
`kodim01_meta` and `kodim01_meta_48` from weights that are learned on DIV2K: the recipes are in params.yaml. Results are
averaged over photographs, as is usual: the mean of their PSNR.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from benchmarks.data import div2k, download, kodak
from benchmarks.data.download import RemoteFile
from benchmarks.errors import TaskError
from benchmarks.tasks.kinds import pictures, trained
from benchmarks.tasks.kinds.pictures import Picture, PictureTest

ITEMS, METRICS = pictures.ITEMS, pictures.METRICS
WIDTHS = {
    "": 32,
    "_48": 48,
    "_64": 64,
    "_128": 128,
    "_short": 32,
    "_tiny": 32,
    "_meta": 32,
    "_meta_48": 48,
    "_meta_64": 64,
    "_meta_128": 128,
}  # hidden, by the end of a network's name
FREQUENCIES = 16
UPRIGHT = {4, 9, 10, 17, 18, 19}
NETWORKS = {  # photograph and hidden width
    f"kodim{number:02d}{end}": (number, width) for end, width in WIDTHS.items() for number in range(1, 25)
}


def _size(number: int) -> tuple[int, int]:
    return (768, 512) if number in UPRIGHT else (512, 768)


def _file(network: str) -> RemoteFile:
    return kodak.FILES[NETWORKS[network][0] - 1]


def pixels(data: bytes, size: tuple[int, int], name: str) -> Tensor:
    """The pixels uint8 (height, width, 3) of a PNG; raises TaskError for another file, mode or size."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if (image.height, image.width) != size or image.mode != "RGB":
                msg = (
                    f"{name} is {image.width} × {image.height} pixels in mode {image.mode}, not {size[1]} × {size[0]} in RGB: "
                    "fetch it again"
                )
                raise TaskError(msg)
            return torch.from_numpy(np.array(image))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        msg = f"{name} is no readable PNG ({error}): fetch it again"
        raise TaskError(msg) from error


def _pixels(network: str) -> Tensor:
    place = download.fetch(_file(network))
    return pixels(place.read_bytes(), _size(NETWORKS[network][0]), str(place))


def task(network: str) -> Picture:
    """The task as a method sees it."""
    number, width = NETWORKS[network]
    return pictures.picture(
        "kodak",
        network,
        _size(number),
        width,
        FREQUENCIES,
        lambda: _pixels(network),
        lambda: trained.state("kodak", network),
        div2k.photographs if "_meta" in network else None,
    )


def test(network: str) -> PictureTest:
    return PictureTest(task(network))


def files(network: str | None = None) -> list[RemoteFile]:
    return kodak.FILES if network is None else [_file(network)]


def provenance(network: str) -> dict[str, str]:
    return {"data": _file(network).known_hash, **trained.PROVENANCE}


def cached_reference(network: str) -> Mapping[str, Tensor] | None:
    return trained.cached("kodak", network)
