"""The value of every test item, in an optional file beside a record; paired comparisons of two networks need them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.errors import RecordError
from benchmarks.records.schema import Score
from methods.interface import Metric


def path_beside(record_path: Path) -> Path:
    """The file beside a record that holds the values of single test items, if they were kept."""
    return record_path.with_suffix(".items")


def pack(metric: Metric, values: Tensor) -> bytes:
    """One value (N,) per test item: a bit each for a proportion (1,250 bytes for 10,000), little-endian fp32 for a mean."""
    if metric.kind == "proportion":
        return np.packbits(values.numpy()).tobytes()
    return values.float().numpy().astype("<f4").tobytes()


def read(record_path: Path, metric: Metric, score: Score) -> Tensor | None:
    """The values (N,) of a record's first metric, one per test item; None if they were not kept.

    Raises RecordError if their number or their sum is not the one in the record.
    """
    path = path_beside(record_path)
    if not path.exists():
        return None
    data = path.read_bytes()
    if metric.kind == "proportion":
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        fits = len(data) == (score.items + 7) // 8 and not bits[score.items :].any()
        found = torch.from_numpy(bits[: score.items].astype(bool)) if fits else torch.zeros(0)
        fits = fits and int(found.sum()) == score.total
    else:
        fits = len(data) == 4 * score.items
        found = torch.from_numpy(np.frombuffer(data, "<f4").copy()) if fits else torch.zeros(0)
        fits = fits and bool(np.isclose(float(found.double().sum()), score.total, rtol=1e-5))
    if not fits:
        msg = f"{path} does not hold the {score.items:,} items of its record: delete both and run again"
        raise RecordError(msg)
    return found
