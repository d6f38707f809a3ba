"""NNC (ISO/IEC 15938-17) by Fraunhofer HHI's NNCodec: dependent quantisation and context-adaptive arithmetic coding.

Becking, Haase, Kirchhoffer, Müller, Samek, Marpe: NNCodec: An Open Source Software Implementation of the Neural Network
Coding ISO/IEC Standard, ICML 2023 Workshop Neural Compression. The library's bitstream is one stream inside RateBench's
container, so its rate is that stream plus the container's header (a few hundred bytes).
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from benchmarks.bitstream import blueprint
from benchmarks.errors import BitstreamError, MethodError
from methods.families.limits import check_order
from methods.interface import Budget, Card, Coded, Compressed, Part, Run, Task

CARD = Card(
    key="nnc",
    title="NNCodec: An Open Source Software Implementation of the Neural Network Coding ISO/IEC Standard",
    authors=("D. Becking", "P. Haase", "H. Kirchhoffer", "K. Müller", "W. Samek", "D. Marpe"),
    venue="ICML 2023 Workshop Neural Compression",
    year=2023,
    families=("quantisation", "entropy coding"),
    fidelity="baseline",
    code="https://github.com/fraunhoferhhi/nncodec",
)


@dataclass(frozen=True)
class Config:
    """`qps` are the standard's quantisation parameters, one operating point each: the step is 2^(qp/4) times a factor."""

    qps: tuple[Annotated[int, Meta(ge=-100, le=100)], ...] = (-41, -35, -32, -26, -23, -20, -17, -13, -9, -6)

    def __post_init__(self) -> None:
        check_order("qps", self.qps)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.qps)


def _nncodec() -> ModuleType:
    """The library. It imports torchvision, which benchmarks.data.vision must import first."""
    import benchmarks.data.vision  # noqa: F401

    try:
        from nncodec import nn
    except ImportError as error:
        msg = "nncodec is not installed: pip install 'ratebench[peers]'"
        raise MethodError(msg) from error
    return nn


def unsupported(task: Task, config: Config) -> str | None:
    """Why NNCodec can't be imported; None if it can."""
    try:
        _nncodec()
    except MethodError as error:
        return str(error)
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per quantisation parameter; everything except `qp` is the library's default, without its own fine-tuning."""
    network = task.reference()
    tensors = blueprint.state(network)
    targets = tuple(name for name in network.state_dict() if name in tensors)  # the order of NNCodec's stream
    for qp in config.qps:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            settings = {"qp": qp, "ioq": False, "verbose": False, "results": folder}
            stream = bytes(_nncodec().encode(network, settings))
        part = Part("nnc.bitstream", targets, "weights", {"stream": stream})
        yield Compressed(task.architecture, task.arguments, (part,), {"qp": qp})


def _encode(part: Part) -> Coded:
    return Coded({}, ((part.role, part.data["stream"]),))


def _decode(
    meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]
) -> list[npt.NDArray[np.float32]]:
    """All tensors of the stream without `num_batches_tracked`, in the order in which the encoder wrote them."""
    (stream,) = streams
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            tensors = _nncodec().decode(bytearray(stream), {"verbose": False})
    except (Exception, SystemExit) as error:  # the library raises exceptions of any kind, including SystemExit
        msg = f"NNCodec can't decode its stream: {error or type(error).__name__}"
        raise BitstreamError(msg) from error
    arrays = [np.asarray(a, np.float32) for n, a in tensors.items() if not n.endswith("num_batches_tracked")]
    if len(arrays) != len(shapes) or any(a.size != np.prod(s) for a, s in zip(arrays, shapes, strict=True)):
        raise BitstreamError("NNCodec's stream holds other tensors than the file's header names: the file is damaged")
    return [a.reshape(s) for a, s in zip(arrays, shapes, strict=True)]


CODECS = {"bitstream": SimpleNamespace(encode=_encode, decode=_decode)}
