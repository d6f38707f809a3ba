"""NNC (ISO/IEC 15938-17) by Fraunhofer HHI's NNCodec: dependent quantisation and context-adaptive arithmetic coding.

Becking, Haase, Kirchhoffer, Müller, Samek, Marpe: NNCodec: An Open Source Software Implementation of the Neural Network
Coding ISO/IEC Standard, ICML 2023 Workshop Neural Compression. The library's bitstream is one stream inside RateBench's
container, so its rate is that stream plus the container's header (a few hundred bytes). The library runs in a process of
its own (client.py, worker.py), with limits on time and memory while it decodes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from torch import nn

from benchmarks.bitstream import blueprint
from benchmarks.errors import BitstreamError, MethodError
from benchmarks.training import control_variate
from methods.baselines.nnc.client import LIBRARY, NNCodecError
from methods.families import storage
from methods.families.limits import Images, check_order
from methods.interface import CLASSIFICATION, IMAGE_CODING, Budget, Card, Coded, Compressed, Part, Run, Task

CARD = Card(
    key="nnc",
    title="NNCodec: An Open Source Software Implementation of the Neural Network Coding ISO/IEC Standard",
    authors=("D. Becking", "P. Haase", "H. Kirchhoffer", "K. Müller", "W. Samek", "D. Marpe"),
    venue="ICML 2023 Workshop Neural Compression",
    year=2023,
    families=("quantisation", "entropy coding"),
    fidelity="baseline",
    code="https://github.com/fraunhoferhhi/nncodec",
    kinds=(CLASSIFICATION, IMAGE_CODING),
)


@dataclass(frozen=True)
class Config:
    """`qps` are the standard's quantisation parameters, one operating point each: the step is 2^(qp/4) times a factor.

    `recalibrate` is the number of unlabelled images by which BatchNorm is corrected before the library codes it, too (0: it
    is coded as it is, as the library does).
    """

    qps: tuple[Annotated[int, Meta(ge=-100, le=100)], ...] = (-41, -35, -32, -26, -23, -20, -17, -13, -9, -6)
    recalibrate: Images = 0

    def __post_init__(self) -> None:
        check_order("qps", self.qps)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.qps)


def unsupported(task: Task, config: Config) -> str | None:
    """Why NNCodec can't be used on this machine; None if it can."""
    try:
        LIBRARY.start()
    except MethodError as error:
        return str(error)
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per quantisation parameter; everything except `qp` is the library's default, without its own fine-tuning."""
    storage.check_names(task)
    network = task.reference()
    tensors = blueprint.state(network)
    targets = tuple(name for name in network.state_dict() if name in tensors)  # the order of NNCodec's stream
    known = control_variate.control(network, task, config.recalibrate)
    for qp in config.qps:
        part = _coded(network, targets, qp)
        if config.recalibrate:
            changed = task.reference()
            storage.fill(changed, [part])
            control_variate.correct(changed, task, config.recalibrate, known)
            part = _coded(_with_statistics(network, changed), targets, qp)
        yield Compressed(task.architecture, task.arguments, (part,), {"qp": qp})


def _coded(network: nn.Module, targets: tuple[str, ...], qp: int) -> Part:
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    described = [[name, str(array.dtype), list(array.shape)] for name, array in arrays.items()]
    request = {"do": "encode", "limits": None, "tensors": described, "settings": {"qp": qp, "ioq": False}}
    try:
        (stream,) = LIBRARY.ask(request, [array.tobytes() for array in arrays.values()])
    except NNCodecError as error:
        msg = f"NNCodec can't encode this network at qp {qp}: {error}"
        raise MethodError(msg) from error
    return Part("nnc.bitstream", targets, "weights", {"stream": stream})


@torch.no_grad()
def _with_statistics(network: nn.Module, other: nn.Module) -> nn.Module:
    """A copy of a network with the running statistics of another one."""
    made = copy.deepcopy(network)
    for (name, buffer), (_, theirs) in zip(made.named_buffers(), other.named_buffers(), strict=True):
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(theirs)
    return made


def _encode(part: Part) -> Coded:
    return Coded({}, ((part.role, part.data["stream"]),))


def _limits(stream: int, values: int) -> tuple[int, int]:
    """(seconds of processor time, bytes of memory) for decoding a stream of `stream` bytes to `values` values.

    On one core of a server, decoding takes 0.2 µs per byte and 0.02 µs per value, and 20 bytes of memory per value.
    """
    return 2 + (10 * stream + values) // 10**6, 2**28 + 16 * stream + 40 * values


def _decode(
    meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]
) -> list[npt.NDArray[np.float32]]:
    """All tensors of the stream without `num_batches_tracked`, in the order in which the encoder wrote them."""
    (stream,) = streams
    values = [math.prod(shape) for shape in shapes]
    request = {"do": "decode", "limits": _limits(len(stream), sum(values)), "values": values}
    try:
        found = LIBRARY.ask(request, [stream])
    except NNCodecError as error:
        msg = f"NNCodec can't decode its stream: {error}"
        raise BitstreamError(msg) from error
    return [np.frombuffer(data, np.float32).reshape(shape).copy() for data, shape in zip(found, shapes, strict=True)]


CODECS = {"bitstream": SimpleNamespace(encode=_encode, decode=_decode)}
