"""The coders of integers on what methods store: sizes, speed and memory, `pytest benchmarks/perf/test_codes.py`.

The integers are those of CIFAR-10's references, whose weights have to be in RATEBENCH_MIRROR or in the cache. DeepCABAC is
NNCodec's encoder on the same integers (step 1, scalar quantisation, optimised parameters), less the bytes that it takes for
zeros in tensors of the same names and shapes. The order-0 bound is the entropy of each tensor, without a table.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks import tasks
from benchmarks.bitstream import context
from benchmarks.bitstream.codecs import uniform
from benchmarks.bitstream.entropy import encode_integers
from benchmarks.errors import MethodError, TaskError
from methods import aq, jsvd
from methods.baselines.nnc.client import LIBRARY
from methods.families import grid, storage
from methods.interface import Budget

Codes: TypeAlias = list[npt.NDArray[np.int64]]
RUN: Any = SimpleNamespace(
    budget=Budget("post-training", 0.0),
    device=torch.device("cpu"),
    seed=0,
    generator=lambda *_: torch.Generator().manual_seed(0),
    progress=lambda _: None,
)


@functools.cache
def weights(network: str) -> dict[str, npt.NDArray[Any]]:
    try:
        return storage.matrices(storage.tensors(tasks.load("cifar10", network).reference()))
    except TaskError as error:
        pytest.skip(str(error))


def on_steps(network: str, relative: float) -> Codes:
    values = weights(network)
    rms = math.sqrt(np.mean(np.concatenate([v.ravel() for v in values.values()]) ** 2))
    return [uniform.quantise(v, relative * rms)[0] for v in values.values()]


def on_levels(network: str, bits: int, sparsity: float = 0.0) -> Codes:
    values = weights(network)
    ranked = np.sort(np.concatenate([np.abs(v).ravel() for v in values.values()]))
    least = ranked[int(sparsity * len(ranked))]
    return [uniform.quantise(np.where(np.abs(v) >= least, v, 0), grid.step(v, bits))[0] for v in values.values()]


def factors(network: str) -> Codes:
    config = jsvd.Config(ratios=(10,), storage="uniform", bits=5, scheme="ljsvd")
    (point,) = jsvd.compress(tasks.load("cifar10", network), config, RUN)
    return next(list(p.data["codes"]) for p in point.parts if p.codec == "uniform")


def codewords(network: str) -> Codes:
    """The codes of three books, the frequent ones with the small numbers, as the codec `codebook` stores them."""
    (point,) = aq.compress(tasks.load("cifar10", network), aq.Config(points=((3, 256),), recalibrate=0), RUN)
    codes = next(p.data["codes"] for p in point.parts if p.codec == "codebook")
    ranks = [np.argsort(np.argsort(-np.bincount(column, minlength=256), kind="stable")) for column in codes.T]
    return [np.stack([rank[column] for rank, column in zip(ranks, codes.T, strict=True)])]


def cases() -> Iterator[tuple[str, Callable[[], Codes]]]:
    for network, relative in (("resnet20", 0.5), ("resnet20", 0.75), ("resnet56", 0.75), ("resnet56", 1.6)):
        yield f"{network}, step {relative}", functools.partial(on_steps, network, relative)
    for sparsity, bits in ((0.74, 8), (0.9, 8), (0.74, 4), (0.9, 4)):
        yield f"resnet56, {sparsity:.0%} zeros, {bits} bits", functools.partial(on_levels, "resnet56", bits, sparsity)
    for bits in (8, 5):
        yield f"resnet56, {bits} bits", functools.partial(on_levels, "resnet56", bits)
    yield "resnet20, LJSVD factors", functools.partial(factors, "resnet20")
    yield "resnet20, additive codes", functools.partial(codewords, "resnet20")


def entropy(codes: Codes) -> float:
    """Bytes by each tensor's own frequencies."""
    bits = 0.0
    for tensor in codes:
        counts = np.unique(tensor, return_counts=True)[1]
        bits -= float((counts * np.log2(counts / tensor.size)).sum())
    return bits / 8


def cabac(codes: Codes) -> tuple[int, float]:
    """(bytes, seconds) of NNCodec's encoder."""
    took, size = 0.0, 0
    for tensors, sign in ((codes, 1), ([np.zeros_like(t) for t in codes], -1)):
        described = [[f"t{i}.weight", "float32", list(t.shape)] for i, t in enumerate(tensors)]
        request = {"do": "encode", "limits": None, "tensors": described}
        request["settings"] = {"qp": 0, "use_dq": False, "ioq": False}
        start = time.perf_counter()
        (stream,) = LIBRARY.ask(request, [t.astype(np.float32).tobytes() for t in tensors])
        took, size = took + sign * (time.perf_counter() - start), size + sign * len(stream)
    return size, took


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = function()
    return time.perf_counter() - start, found


def peak(function: Callable[[], Any]) -> float:
    """By how many MiB a call raises this process's memory at most."""
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    Path("/proc/self/clear_refs").write_text("5")
    before, _, after = _status("VmRSS"), function(), _status("VmHWM")
    return (after - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def test_coders_on_what_methods_store(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        LIBRARY.start()
        compared = True
    except MethodError:
        compared = False
    context.encode_tensors([np.arange(9).reshape(1, 1, 3, 3)])  # compiled
    heads = ("static", "context", "DeepCABAC", "order-0", "M/s", "M/s back", "× NNCodec", "MiB")
    lines = [f"{'integers':32}{'values':>9}" + "".join(f"{head:>11}" for head in heads)]
    for name, made in cases():
        codes = made()
        values = sum(t.size for t in codes)
        static = sum(len(encode_integers(t)) for t in codes)
        seconds, stream = timed(functools.partial(context.encode_tensors, codes))
        assert stream is not None
        back, found = timed(functools.partial(context.decode_tensors, stream, [t.shape for t in codes]))
        assert all((a == b).all() for a, b in zip(found, codes, strict=True))
        theirs, took = cabac(codes) if compared and codes[0].ndim > 1 else (math.nan, math.nan)
        shares = [f"{100 * (size / static - 1):+.1f} %" for size in (len(stream), theirs, entropy(codes))]
        rates = [f"{values / s / 1e6:.1f}" for s in (seconds, back)]
        memory = peak(functools.partial(context.encode_tensors, codes))
        numbers = [f"{static:,}", *shares, *rates, f"{took / seconds:.1f}", f"{memory:.0f}"]
        lines.append(f"{name:32}{values:9,}" + "".join(f"{number:>11}" for number in numbers))
    with capsys.disabled():
        print("", *lines, sep="\n")
