"""COIN: a picture as the weights of a sine network in half precision (Dupont et al. 2021), on the task's network.

COIN halves the precision of fitted weights and codes nothing else. Its own networks are deeper, have no encoding of coordinates
and are fitted without a penalty; here the storage is compared on the network that all methods of the task start from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from methods.families import storage
from methods.interface import IMAGE_CODING, Budget, Card, Compressed, Run, Task

CARD = Card(
    key="coin",
    title="COIN: Compression with Implicit Neural Representations",
    authors=("Emilien Dupont", "Adam Goliński", "Milad Alizadeh", "Yee Whye Teh", "Arnaud Doucet"),
    venue="ICLR workshop Neural Compression",
    year=2021,
    families=("image coding",),
    fidelity="baseline",
    arxiv="2103.03123",
    kinds=(IMAGE_CODING,),
)
DTYPES: tuple[Literal["float32", "float16"], ...] = ("float32", "float16")


@dataclass(frozen=True)
class Config:
    """There are no settings: the network as it was fitted, and COIN's half precision."""

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(DTYPES)


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """Two points: every tensor as fp32, then as fp16."""
    found = storage.tensors(task.reference())
    for dtype in DTYPES:
        yield Compressed(task.architecture, task.arguments, tuple(storage.stored_raw(found, dtype)), {"dtype": dtype})
