"""AVIF, by Pillow.

A key frame of the video codec AV1 (Han et al., A Technical Overview of AV1, Proceedings of the IEEE 2021). The picture itself
is coded, and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from methods.families import pictures
from methods.interface import IMAGE_CODING, Card, Compressed, Run, Task

CARD = Card(
    key="avif",
    title="AVIF",
    authors=(),
    venue="AOMedia",
    year=2019,
    families=("image coding",),
    fidelity="baseline",
    kinds=(IMAGE_CODING,),
)


@dataclass(frozen=True)
class Config(pictures.Qualities):
    """`qualities` are libavif's, one point each, at speed 4; colours at half the resolution (4:2:0)."""

    qualities: tuple[pictures.Quality, ...] = (85, 70, 55, 40, 30, 20, 10, 0)


def unsupported(task: Task, config: Config) -> str | None:
    """A Pillow without the codec is refused."""
    return pictures.unsupported("avif")


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per quality."""
    return pictures.compressed(
        task, "avif", [({"quality": q}, {"quality": q, "speed": 4, "subsampling": "4:2:0"}) for q in config.qualities]
    )
