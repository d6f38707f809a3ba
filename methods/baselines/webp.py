"""WebP, lossy, by Pillow.

The prediction, transform and arithmetic coding of key frames of the video codec VP8 (RFC 9649). The picture itself is coded,
and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from msgspec import Meta

from methods.families import pictures
from methods.families.limits import check_order
from methods.interface import IMAGE_CODING, Budget, Card, Compressed, Run, Task

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
Quality: TypeAlias = Annotated[int, Meta(ge=0, le=100)]


@dataclass(frozen=True)
class Config:
    """`qualities` are libwebp's, one point each, with its slowest search (method 6)."""

    qualities: tuple[Quality, ...] = (95, 85, 70, 50, 30, 15, 5, 0)

    def __post_init__(self) -> None:
        check_order("qualities", self.qualities, rising=False)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.qualities)


def unsupported(task: Task, config: Config) -> str | None:
    """A Pillow without the codec is refused."""
    return pictures.unsupported("webp")


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per quality."""
    return pictures.compressed(task, "webp", [({"quality": q}, {"quality": q, "method": 6}) for q in config.qualities])
