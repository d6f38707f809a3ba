"""DIV2K's photographs, as INR learns initial weights from them (Agustsson and Timofte, NTIRE 2017; hashes of the archives).

Upright photographs lie on their side; each is reduced to at most 768 × 512 pixels and then brought to exactly this size.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.data import download
from benchmarks.data.download import RemoteFile
from benchmarks.errors import TaskError, first_line

SIZE = (512, 768)  # height and width
_ADDRESS = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
FILES = {
    "train": RemoteFile(
        "div2k/DIV2K_train_HR.zip",
        f"{_ADDRESS}/DIV2K_train_HR.zip",
        "sha256:9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
        most=3_530_603_713,
    ),
    "validation": RemoteFile(
        "div2k/DIV2K_valid_HR.zip",
        f"{_ADDRESS}/DIV2K_valid_HR.zip",
        "sha256:20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
        most=448_993_893,
    ),
}
COUNTS = {"train": 800, "validation": 100}


def photographs() -> tuple[tuple[int, int], Tensor, Tensor]:
    """Their size, then uint8 (N, 512 · 768, 3): 800 photographs to learn from and 100 for validation.

    They are fetched if needed; raises TaskError.
    """
    train, validation = (read(download.fetch(FILES[part]), COUNTS[part]) for part in ("train", "validation"))
    return SIZE, train, validation


def read(archive: Path, count: int) -> Tensor:
    """The photographs of an archive, in the order of their names; raises TaskError for another number or a damaged one."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = sorted(name for name in opened.namelist() if name.endswith(".png"))
            if len(names) != count:
                msg = f"{archive} holds {len(names)} photographs, not {count}: it is another archive; fetch it again"
                raise TaskError(msg)
            found = torch.empty(count, SIZE[0] * SIZE[1], 3, dtype=torch.uint8)
            for number, name in enumerate(names):
                with opened.open(name) as data, Image.open(data, formats=["PNG"]) as image:
                    found[number] = reduced(image)
    except (zipfile.BadZipFile, Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        msg = f"{archive} is damaged ({first_line(error)}): fetch it again"
        raise TaskError(msg) from error
    return found


def reduced(image: Image.Image) -> Tensor:
    """The pixels uint8 (512 · 768, 3) of a photograph of any size."""
    colours = image.convert("RGB")
    if colours.height > colours.width:
        colours = colours.transpose(Image.Transpose.ROTATE_90)
    colours.thumbnail((SIZE[1], SIZE[0]))
    return torch.from_numpy(np.array(colours.resize((SIZE[1], SIZE[0])))).view(-1, 3)
