"""Codec: differences from learned initial weights, which encoder and decoder have (Strümpler et al., ECCV 2022, section 3.3).

The file names these weights by a hash. As in the paper, they are part of the decoder and not of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from benchmarks.bitstream.codecs import uniform
from benchmarks.errors import BitstreamError
from benchmarks.tasks.kinds import starts
from methods.interface import Coded, Part

_DIGEST = re.compile(rf"[0-9a-f]{{{starts.DIGITS}}}")


def part(start: Mapping[str, Tensor], codes: Mapping[str, npt.ArrayLike], steps: Mapping[str, npt.ArrayLike]) -> Part:
    """Code `codes` (integers, by target) on `steps`; the start's tensor of the same name is added. Both have all its names."""
    names = sorted(start)
    inner = uniform.part(names, [codes[name] for name in names], [steps[name] for name in names], "weights")
    return Part("inr.difference", inner.targets, inner.role, {**inner.data, "start": starts.digest(start)})


def _encode(part: Part) -> Coded:
    found = uniform.encode(part)
    return Coded({**found.meta, "start": part.data["start"]}, found.streams)


def _decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    digest = meta["start"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BitstreamError("the name of the initial weights is no hash: the file is damaged")
    start = starts.of_digest(digest)
    if start is None:
        msg = (
            f"it is coded with the initial weights {digest}, which are not in results/references/starts: put them there"
        )
        raise BitstreamError(msg)
    known = [np.asarray(start[name]) for name in sorted(start)]
    if [tensor.shape for tensor in known] != shapes:
        raise BitstreamError("the initial weights have other shapes than the network: the file is damaged")
    return [base + found for base, found in zip(known, uniform.decode(meta, streams, shapes), strict=True)]


CODECS = {"difference": SimpleNamespace(part=part, encode=_encode, decode=_decode)}
