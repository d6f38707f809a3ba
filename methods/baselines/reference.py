"""The uncompressed network, stored in fp32 and in fp16.

The fp32 file holds every tensor exactly: its quality is the one that all other files are compared with. It goes through the
same container, process and scoring as they do, and shows what the container adds to the tensors. The fp16 file shows what half
the precision costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.bitstream.codecs import raw
from benchmarks.errors import MethodError
from methods.families import storage
from methods.interface import CLASSIFICATION, IMAGE_CODING, REGRESSION, Budget, Card, Compressed, Run, Task

CARD = Card(
    key="reference",
    title="The reference network, stored as it is",
    authors=(),
    venue="",
    year=2026,
    families=("storage",),
    fidelity="baseline",
    kinds=(CLASSIFICATION, REGRESSION, IMAGE_CODING),
)


EXACT = 2**24  # fp32 holds all integers up to this
DTYPES: tuple[Literal["float32", "float16"], ...] = ("float32", "float16")


@dataclass(frozen=True)
class Config:
    """There are no settings."""

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(DTYPES)


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """Two points: every tensor as fp32 (exact), then as fp16; integers always as fp32.

    Raises MethodError for integers beyond ±EXACT.
    """
    storage.check_names(task)
    found = storage.tensors(task.reference())
    whole = {name: values for name, values in found.items() if values.dtype == np.int64}
    if large := [name for name, values in whole.items() if np.abs(values).max(initial=0) > EXACT]:
        msg = f"{large[0]} has integers beyond ±{EXACT:,}, which fp32 can't hold exactly"
        raise MethodError(msg)
    indices = [raw.part(list(whole), list(whole.values()), "indices", "float32")] if whole else []
    for dtype in DTYPES:
        parts = (*storage.stored_raw(found, dtype), *indices)
        yield Compressed(task.architecture, task.arguments, parts, {"dtype": dtype})
