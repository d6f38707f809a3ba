"""Values with few fraction bits: rounding as in the official code, training with it, and the codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.bitstream import integers
from benchmarks.errors import BitstreamError
from methods.families.grid import OnGrid
from methods.interface import Coded, Part, Role

LOWEST, HIGHEST = -64, 63  # exponents
Array: TypeAlias = npt.NDArray[Any]


def rounded(values: Array, bits: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(integers q, exponents E) of values q · 2^(E + 1 − bits): E = ⌊log₂|x|⌋ in [−64, 63] and |q| below 2^bits.

    What would be rounded up to 2^bits becomes 2^bits − 1.
    """
    exponents = np.where(values == 0, LOWEST, np.clip(np.frexp(values)[1].astype(np.int64) - 1, LOWEST, HIGHEST))
    most = 2**bits - 1
    codes = np.clip(np.rint(np.ldexp(np.asarray(values, np.float64), bits - 1 - exponents)), -most, most)
    return codes.astype(np.int64), exponents


def values_of(codes: npt.NDArray[np.int64], exponents: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.float32]:
    """Inverse of `rounded`; exact in fp32."""
    return np.ldexp(codes.astype(np.float64), exponents + 1 - bits).astype(np.float32)


def part(targets: Sequence[str], values: Sequence[Array], bits: int, role: Role) -> Part:
    """Code `values` (one array per target) with `bits` significant bits: integers and exponents, both entropy coded."""
    return Part("approxconv.minifloat", tuple(targets), role, {"values": list(values), "bits": bits})


def encode(part: Part) -> Coded:
    bits = part.data["bits"]
    codes, exponents = [], []
    for target, values in zip(part.targets, part.data["values"], strict=True):
        if not np.isfinite(values).all():
            msg = f"{target} holds NaN or infinite values: it can't be written; check the network that the method produced"
            raise BitstreamError(msg)
        own, exponent = rounded(values, bits)
        codes.append(own)
        exponents.append(np.where(own == 0, exponent.max(initial=LOWEST), exponent))  # of a zero, any will do
    streams = (integers.encode_static(codes), integers.encode_static(exponents))
    return Coded({"bits": bits}, tuple((part.role, stream) for stream in streams))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[Array]:
    bits = meta["bits"]
    if type(bits) is not int or not 2 <= bits <= 16:
        raise BitstreamError("values have a number of bits outside 2 to 16: the file is damaged")
    found = []
    for codes, exponents in zip(*(integers.decode({}, stream, shapes) for stream in streams), strict=True):
        if (np.abs(codes) >= 2**bits).any() or (exponents < LOWEST).any() or (exponents > HIGHEST).any():
            raise BitstreamError("a value has an exponent or bits that none can have: the file is damaged")
        found.append(values_of(codes, exponents, bits))
    return found


class OnMinifloat(OnGrid):
    """Trains the weights that are stored so: passes use the rounded ones, and gradients pass through the rounding unchanged."""

    def __init__(self, network: nn.Module, bits: int) -> None:
        super().__init__(network, bits)
        linear = {f"{path}.weight" for path, module in network.named_modules() if isinstance(module, nn.Linear)}
        self._weights = {name: w for name, w in self._weights.items() if w.requires_grad and name not in linear}

    def after_step(self) -> None:
        for name, weight in self._weights.items():
            self._exact[name] = weight.detach().clone()
            weight.copy_(round_tensor(weight, self._bits))


def round_tensor(values: Tensor, bits: int) -> Tensor:
    """The same rounding of a tensor on any device."""
    exponents = (torch.frexp(values).exponent - 1).clamp(LOWEST, HIGHEST)
    scale = torch.ldexp(torch.ones_like(values), bits - 1 - exponents)
    most = 2**bits - 1
    return (values * scale).round().clamp(-most, most) / scale


CODECS = {"minifloat": SimpleNamespace(part=part, encode=encode, decode=decode)}
