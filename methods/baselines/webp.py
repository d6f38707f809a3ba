"""WebP, lossy, by Pillow.

The prediction, transform and arithmetic coding of key frames of the video codec VP8 (RFC 9649). The picture itself is coded,
and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from methods.families import pictures
from methods.interface import IMAGE_CODING, Card, Compressed, Run, Task

CARD = Card(
    key="webp",
    title="WebP, lossy",
    authors=(),
    venue="RFC 9649",
    year=2010,
    families=("image coding",),
    fidelity="baseline",
    kinds=(IMAGE_CODING,),
)


@dataclass(frozen=True)
class Config(pictures.Qualities):
    """`qualities` are libwebp's, one point each, with its slowest search (method 6)."""

    qualities: tuple[pictures.Quality, ...] = (95, 85, 70, 50, 30, 15, 5, 0)


def unsupported(task: Task, config: Config) -> str | None:
    """A Pillow without the codec is refused."""
    return pictures.unsupported("webp")


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per quality."""
    return pictures.compressed(task, "webp", [({"quality": q}, {"quality": q, "method": 6}) for q in config.qualities])
