"""JPEG 2000, by Pillow.

A wavelet transform whose bit planes are coded arithmetically (Skodras, Christopoulos, Ebrahimi, IEEE Signal Processing
Magazine 2001). The picture itself is coded, and no network.
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
    key="jpeg2000",
    title="JPEG 2000",
    authors=(),
    venue="ISO/IEC 15444-1",
    year=2000,
    families=("image coding",),
    fidelity="baseline",
    kinds=(IMAGE_CODING,),
)
Rate: TypeAlias = Annotated[float, Meta(gt=1, le=10_000)]


@dataclass(frozen=True)
class Config:
    """`rates` are OpenJPEG's goals, uncompressed bytes / compressed bytes, one point each.

    The irreversible transforms of colours and waves are used.
    """

    rates: tuple[Rate, ...] = (10, 20, 40, 60, 80, 120, 180, 320)

    def __post_init__(self) -> None:
        check_order("rates", self.rates)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.rates)


def unsupported(task: Task, config: Config) -> str | None:
    """A Pillow without the codec is refused."""
    return pictures.unsupported("jpeg2000")


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per rate."""
    return pictures.compressed(
        task,
        "jpeg2000",
        [
            (
                {"rate": r},
                {"quality_mode": "rates", "quality_layers": [r], "irreversible": True, "mct": 1, "no_jp2": True},
            )
            for r in config.rates
        ],
    )
