"""The weights of a network as one set of vectors, regardless of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from benchmarks.errors import MethodError
from methods.families import storage

Floats = npt.NDArray[np.float32]
Masks = Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Layer:
    """One weight: path, shape, scale (scalar or per output channel), vectors (n, d) and, if pruned, the mask of kept values."""

    path: str
    shape: tuple[int, ...]
    scale: Floats
    vectors: Floats
    mask: npt.NDArray[np.bool_] | None = None


def weights(network: nn.Module, skip: Sequence[str] = ()) -> dict[str, Floats]:
    """All weights of convolutions and linear layers, except of the modules in `skip`."""
    layers = storage.layers(network)
    if unknown := [path for path in skip if path not in layers]:
        msg = f"skip names {', '.join(unknown)}, which is no convolution or linear layer of the network"
        raise MethodError(msg)
    return {f"{p}.weight": m.weight.detach().numpy() for p, m in layers.items() if p not in skip}


def collect(
    found: Mapping[str, Floats],
    dimension: int,
    scale: Literal["layer", "channel", "none"],
    masks: Masks | None = None,
) -> list[Layer]:
    """Flatten each weight, divide by its scale, cut into vectors of `dimension` values, and pad the last with zeros.

    With `masks`, only kept values are used. No vector spans two layers. Raises MethodError for a layer that is shorter than
    a vector, constant or not finite.
    """
    return [_layer(path, w, dimension, scale, None if masks is None else masks[path]) for path, w in found.items()]


def _layer(path: str, weight: Floats, dimension: int, scale: str, mask: npt.NDArray[np.bool_] | None) -> Layer:
    if not np.isfinite(weight).all():
        msg = f"{path} has NaN or infinite values: it can't be quantised"
        raise MethodError(msg)
    if dimension > weight.size:
        msg = f"vectors of {dimension} values are longer than {path} with {weight.size}: choose shorter vectors or skip it"
        raise MethodError(msg)
    per_channel = scale == "channel" and weight.ndim > 1
    axes = tuple(range(1, weight.ndim)) if per_channel else None
    spread = np.ones((), np.float32) if scale == "none" else weight.std(axis=axes, dtype=np.float64).astype(np.float32)
    if not (spread > 0).all():
        if not (spread > 0).any():
            msg = f"{path} is constant: it has no scale; choose scale 'none' or skip it"
            raise MethodError(msg)
        spread = np.where(spread > 0, spread, np.float32(1))  # a dead channel
    scaled = weight / spread.reshape(spread.shape + (1,) * (weight.ndim - spread.ndim))
    flat = scaled.reshape(-1) if mask is None else scaled[mask]
    padded = np.zeros(math.ceil(flat.size / dimension) * dimension, np.float32)
    padded[: flat.size] = flat
    return Layer(path, weight.shape, spread, padded.reshape(-1, dimension), mask)


def stack(layers: Sequence[Layer]) -> Floats:
    """All vectors (n, d), in the order of the layers."""
    return np.concatenate([layer.vectors for layer in layers])


def groups(layers: Sequence[Layer], count: int) -> list[list[Layer]]:
    """Contiguous groups with about equal numbers of vectors; `count` 0 makes each layer a group."""
    if count == 0:
        return [[layer] for layer in layers]
    ends = np.cumsum([len(layer.vectors) for layer in layers])
    place = np.minimum((ends - 1) * count // ends[-1], count - 1)
    return [own for g in range(count) if (own := [x for x, p in zip(layers, place, strict=True) if p == g])]
