"""Optional files with the value of every test item, one beside each record, for paired comparisons of two networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.errors import RecordError
from benchmarks.evaluation.metrics import agree
from benchmarks.records import described, regular
from benchmarks.records.schema import Record, Score
from methods.interface import Metric

SUFFIX = ".items"


def path_beside(record_path: Path) -> Path:
    """The path of the file beside a record with the values of single test items; the file may not exist."""
    return record_path.with_suffix(SUFFIX)


def beside(record_path: Path) -> bytes | None:
    """The bytes of the values beside a record; None if there are none."""
    path = path_beside(record_path)
    return path.read_bytes() if path.is_file() else None


def pack(metric: Metric, values: Tensor) -> bytes:
    """One value (N,) per test item: a bit each for a proportion (1,250 bytes for 10,000), little-endian fp32 for a mean."""
    if metric.kind == "proportion":
        return np.packbits(values.numpy()).tobytes()
    return values.float().numpy().astype("<f4").tobytes()


def check(record_path: Path, known: Record) -> None:
    """Raise RecordError if there are values beside a record that do not match its sums.

    Values of a metric that the installed code does not put first can't be read, and are not checked.
    """
    first = next(iter(described.metrics(known.task)), None)
    if first is not None and first.name == known.metric:
        read(record_path, first, known.quality)


def read(record_path: Path, metric: Metric, score: Score) -> Tensor | None:
    """The values (N,) of the test items of a record's first metric; None if they were not kept.

    Raises RecordError if they do not match the sums in the record.
    """
    path = path_beside(record_path)
    try:
        data = regular.read(path, 4 * score.items)
    except FileNotFoundError:
        return None
    except regular.NotRegular:
        data = b""
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise RecordError(msg) from error
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
            f"{path} does not hold the {score.items:,} items that {record_path.name} sums up: restore both from one run, "
            f"or move {path.name} out of the results to use the record alone"
        )
        raise RecordError(msg)
    return found
