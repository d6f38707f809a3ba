"""Decoding photographs: the pipeline against a plain loop of Pillow over the same files, in one run."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.images import Pictures, centred

COUNT, BATCH = 512, 64


def photographs(folder: Path) -> list[Path]:
    """JPEG files of the typical size in ILSVRC2012, smooth like photographs."""
    generator = np.random.default_rng(0)
    for i in range(COUNT):
        coarse = generator.integers(256, size=(24, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{i}.JPEG", quality=95)
    return sorted(folder.iterdir())


def bare(path: Path) -> None:
    """Decode, resize, crop; nothing else."""
    with Image.open(path) as image:
        image.convert("RGB").resize((341, 256), Image.Resampling.BILINEAR).crop((58, 16, 282, 240)).load()


def test_decoding(tmp_path: Path) -> None:
    paths, rates = photographs(tmp_path), []
    for threads in (1, os.cpu_count() or 1):
        with ThreadPoolExecutor(threads) as pool:
            begin = time.perf_counter()
            list(pool.map(bare, paths))
            rates.append(COUNT / (time.perf_counter() - begin))
    pictures = Pictures(paths, centred(224, 256))
    begin = time.perf_counter()
    for start in range(0, COUNT, BATCH):
        pictures[start : start + BATCH]
    ours = COUNT / (time.perf_counter() - begin)
    print(
        f"\ndecode, resize, crop: {ours:.0f} images/s, {ours / rates[0]:.2f} and {ours / rates[1]:.2f} times", end=" "
    )
    print(f"bare Pillow's {rates[0]:.0f} in one thread and {rates[1]:.0f} in {threads}")
