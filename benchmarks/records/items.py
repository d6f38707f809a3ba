"""Optional files with the value of every test item, one beside each record, for paired comparisons of two networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.errors import RecordError
from benchmarks.evaluation.metrics import agree
from benchmarks.records.schema import Score
from methods.interface import Metric


def path_beside(record_path: Path) -> Path:
    """The path of the file beside a record with the values of single test items; the file may not exist."""
    return record_path.with_suffix(".items")


def pack(metric: Metric, values: Tensor) -> bytes:
    """One value (N,) per test item: a bit each for a proportion (1,250 bytes for 10,000), little-endian fp32 for a mean."""
    if metric.kind == "proportion":
        return np.packbits(values.numpy()).tobytes()
    return values.float().numpy().astype("<f4").tobytes()


def read(record_path: Path, metric: Metric, score: Score) -> Tensor | None:
    """The values (N,) of the test items of a record's first metric; None if they were not kept.

    Raises RecordError if they do not match the sums in the record.
    """
    path = path_beside(record_path)
    if not path.exists():
        return None
    data = path.read_bytes()
    if metric.kind == "proportion":
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        fits = len(data) == (score.items + 7) // 8 and not bits[score.items :].any()
        found = torch.from_numpy(bits[: score.items].astype(bool)) if fits else torch.zeros(0)
        total: float = int(found.sum())
    else:
        fits = len(data) == 4 * score.items
        found = torch.from_numpy(np.frombuffer(data, "<f4").copy()) if fits else torch.zeros(0)
        total = float(found.double().sum())
    if not fits or not agree(metric, score, len(found), total):
        msg = (
            f"{path} does not hold the {score.items:,} items that its record sums up: "
            f"the record itself is valid, so remove {path.name} to use it without items"
        )
        raise RecordError(msg)
    return found
