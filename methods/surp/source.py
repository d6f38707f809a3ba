"""The source that SuRP codes: all tensors of a network as one vector of normalised magnitudes, with separate signs.

Each tensor is divided by its own norm. Entries of small tensors (BatchNorm, the first and the last layer) are therefore
larger than those of wide layers and are refined first. SuRP has no other allocation of rate to layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.bytesio import Ints
from benchmarks.errors import BitstreamError, MethodError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Norm = Literal["l2", "l1"]
FLOOR = 2.0**-12  # a pass ends at this fraction of the mean magnitude: fp32 side information is not more precise


@dataclass(frozen=True)
class Source:
    """n normalised magnitudes `u` >= 0 (fp64), `negative` (n,), and `norms` (one fp32 per tensor)."""

    u: Floats
    negative: Bools
    norms: npt.NDArray[np.float32]


def normalise(tensors: Sequence[npt.ArrayLike], norm: Norm = "l2") -> Source:
    """Flatten, divide each tensor by its `norm` rounded to fp32, and join; a tensor of norm zero stays zero.

    Raises MethodError for NaN or infinite weights and for a norm beyond the range of fp32.
    """
    flat = [np.asarray(t, np.float64).ravel() for t in tensors]
    size = np.abs if norm == "l1" else np.square
    sums = np.array([size(t).sum() for t in flat])
    with np.errstate(over="ignore"):
        norms = (sums if norm == "l1" else np.sqrt(sums)).astype(np.float32)
    if not np.isfinite(norms).all():
        where = int(np.flatnonzero(~np.isfinite(norms))[0])
        msg = f"tensor {where} holds NaN, infinite or huge weights: SuRP can't normalise it; check the network"
        raise MethodError(msg)
    divisors = np.where(norms > 0, norms, np.inf).astype(np.float64)
    u = np.concatenate([np.abs(t) / d for t, d in zip(flat, divisors, strict=True)])
    return Source(u, np.concatenate([np.signbit(t) for t in flat]), norms)


def mean_magnitude(u: Floats) -> float:
    """The scale that both sides start from: the mean over the survivors, which are not zero, rounded to fp32 (0: none).

    The zeros of a pruned network are never refined. With them, the mean and all thresholds would be too small, and each
    weight would take many small steps.
    """
    count = np.count_nonzero(u)
    return float(np.float32(u.sum() / count)) if count else 0.0


def wanted(sparsities: Sequence[float], n: int) -> list[int]:
    """The number of non-zeros for each sparsity (the share of zeros among n), fewest first."""
    return sorted(math.ceil((1 - s) * n - 1e-9) for s in sparsities)


def weights(
    u_hat: Floats, touched: Ints, negative: Bools, norms: npt.NDArray[np.float32], shapes: list[tuple[int, ...]]
) -> list[npt.NDArray[np.float32]]:
    """Undo `normalise`: sign · û · norm in fp64, rounded once to fp32, split into `shapes`.

    `negative` holds a sign for each index in `touched`, all others being zero. Because û <= u and rounding is
    monotone, no reconstructed weight exceeds its original in magnitude.
    """
    signed = u_hat.copy()
    signed[touched[negative]] *= -1.0
    out, at = [], 0
    for shape, norm in zip(shapes, norms, strict=True):
        size = math.prod(shape)
        with np.errstate(over="ignore", invalid="ignore"):
            array = (signed[at : at + size] * np.float64(norm)).astype(np.float32)
        if not np.isfinite(array).all():
            raise BitstreamError("a SuRP part decodes to infinite weights: the file is damaged")
        out.append(array.reshape(shape))
        at += size
    return out


def scalars(meta: Mapping[str, Any]) -> tuple[float, float, float]:
    """The checked (mean magnitude, alpha, decay) of a header."""
    mu, alpha, decay = (float(meta[name]) for name in ("mu", "alpha", "decay"))
    if not (0 <= mu < 2.0**128 and 0 < alpha < 2.0**20 and 0 < decay < 1):
        raise BitstreamError("a SuRP part has impossible parameters: the file is damaged")
    return mu, alpha, decay


def rice_bits(population: Ints, hits: Ints) -> Ints:
    """Low bits of the Rice code for positions where `hits` of a `population` (< 2^31) are expected.

    floor(log2(0.97 · mean)), which is the best parameter for a geometric variable except for small means (A. Kiely,
    Selecting the Golomb Parameter in Rice Coding, 2004); in integers, so that every machine finds the same value.
    """
    expected = np.maximum((population - hits) * 31 // (32 * np.maximum(hits, 1)), 1)
    return np.frexp(expected.astype(np.float64))[1].astype(np.int64) - 1
