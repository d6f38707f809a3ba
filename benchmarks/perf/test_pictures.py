"""Decoding photographs: what the pipeline gives against a bare loop of Pillow over the same files, in one run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.pictures import Pictures, centred

COUNT, BATCH = 512, 64


def photographs(folder: Path) -> list[Path]:
    """JPEG files of the size that is common in ILSVRC2012, smooth as photographs are."""
    generator = np.random.default_rng(0)
    for i in range(COUNT):
        coarse = generator.integers(256, size=(24, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{i}.JPEG", quality=95)
    return sorted(folder.iterdir())


def bare(paths: list[Path]) -> None:
    """Decode, resize, crop; nothing else, one file after the other."""
    for path in paths:
        with Image.open(path) as image:
            image.convert("RGB").resize((341, 256), Image.Resampling.BILINEAR).crop((58, 16, 282, 240)).load()


def test_decoding(tmp_path: Path) -> None:
    paths = photographs(tmp_path)
    begin = time.perf_counter()
    bare(paths)
    one = COUNT / (time.perf_counter() - begin)
    pictures = Pictures(paths, centred(224, 256))
    begin = time.perf_counter()
    for start in range(0, COUNT, BATCH):
        pictures[start : start + BATCH]
    ours = COUNT / (time.perf_counter() - begin)
    print(
        f"\ndecode, resize, crop: {ours:.0f} images/s, bare Pillow in one thread {one:.0f}: {ours / one:.2f} times",
        end="",
    )
    print(f" ({torch.get_num_threads()} threads)")
