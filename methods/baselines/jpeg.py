"""JPEG, by Pillow.

The discrete cosine transform of blocks of 8 × 8 pixels, quantised and Huffman coded (Wallace, Communications of the ACM
1991). The picture itself is coded, and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from msgspec import Meta

from methods.families import pictures
from methods.interface import IMAGE_CODING, Card, Compressed, Run, Task

CARD = Card(
    key="jpeg",
    title="JPEG",
    authors=(),
    venue="ISO/IEC 10918-1",
    year=1992,
    families=("image coding",),
    fidelity="baseline",
    kinds=(IMAGE_CODING,),
)
Quality: TypeAlias = Annotated[int, Meta(ge=1, le=100)]


@dataclass(frozen=True)
class Config(pictures.Qualities):
    """`qualities` are libjpeg's, one point each; colours at half the resolution (4:2:0), optimised Huffman tables."""

    qualities: tuple[Quality, ...] = (95, 85, 70, 50, 30, 20, 10, 5)


def unsupported(task: Task, config: Config) -> str | None:
    """A Pillow without the codec is refused."""
    return pictures.unsupported("jpeg")


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per quality."""
    return pictures.compressed(
        task,
        "jpeg",
        [({"quality": q}, {"quality": q, "optimize": True, "subsampling": "4:2:0"}) for q in config.qualities],
    )
