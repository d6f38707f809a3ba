"""The IDX format of MNIST: a big-endian header with type and sizes, then unsigned bytes; compressed by gzip."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.errors import TaskError

_BYTES = 8  # the type of unsigned bytes


def read(path: Path, *sizes: int) -> Tensor:
    """The uint8 tensor in a file that must have these sizes; raises TaskError for any other content."""
    wanted = struct.pack(f">HBB{len(sizes)}I", 0, _BYTES, len(sizes), *sizes)
    whole = len(wanted) + math.prod(sizes)
    try:
        with gzip.open(path) as file:
            data = file.read(whole + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        msg = f"{path} is damaged or no gzip file ({error}): fetch it again"
        raise TaskError(msg) from error
    if not data.startswith(wanted) or len(data) != whole:
        shape = " × ".join(map(str, sizes))
        msg = f"{path} does not hold {shape} bytes in the IDX format: it is cut short or another file; fetch it again"
        raise TaskError(msg)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=len(wanted)).reshape(sizes)
