"""Times of the bitstream against simple alternatives in the same run: `pytest benchmarks/perf`, not part of `tests`.

Each benchmark prints its size and time against the alternative's. Times are not asserted, because machines differ.
"""

from __future__ import annotations

import io
import lzma
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.bitstream import blueprint, context, decode, encode
from benchmarks.bitstream.codecs import raw, uniform
from benchmarks.bitstream.entropy import decode_integers, encode_integers
from methods.interface import Compressed

ARCHITECTURE, ARGUMENTS = "cifar_resnet", {"depth": 56}
PACKERS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "zlib": (lambda data: zlib.compress(data, 9), zlib.decompress),
    "lzma": (lzma.compress, lzma.decompress),
}


def laplace(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Codes like those of weights on a step of their mean magnitude: 2.5 bits each."""
    return np.rint(np.random.default_rng(seed).laplace(0, 1.0, count)).astype(np.int64).clip(-127, 127)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def compare(capsys: pytest.CaptureFixture[str], what: str, size: int, seconds: float, peers: dict[str, Any]) -> None:
    """Print size and median time, and the size and time of each peer (bytes, seconds) relative to these."""
    with capsys.disabled():
        print(f"\n{what}: {size:,} bytes, {1000 * seconds:.1f} ms")
        for name, (peer_size, peer_seconds) in peers.items():
            print(f"  {name}: {peer_size / size:.3f} × the bytes, {peer_seconds / seconds:.2f} × the time")


@pytest.fixture(scope="module")
def codes() -> np.ndarray[Any, np.dtype[np.int64]]:
    return laplace(1_000_000)


def test_encode_a_million_integers(benchmark: Any, capsys: pytest.CaptureFixture[str], codes: Any) -> None:
    coded = benchmark(encode_integers, codes)
    small, peers = codes.astype(np.int8).tobytes(), {}
    for name, (pack, _) in PACKERS.items():
        seconds, packed = timed(lambda pack=pack: pack(small))
        peers[f"int8 + {name}"] = (len(packed), seconds)
    compare(capsys, "encode 1M codes", len(coded), benchmark.stats.stats.median, peers)
    probabilities = np.unique(codes, return_counts=True)[1] / codes.size
    with capsys.disabled():
        print(f"  entropy: {-(probabilities * np.log2(probabilities)).sum() * codes.size / 8:,.0f} bytes")


def test_decode_a_million_integers(benchmark: Any, capsys: pytest.CaptureFixture[str], codes: Any) -> None:
    coded = encode_integers(codes)
    assert (benchmark(decode_integers, coded, codes.size) == codes).all()
    peers = {}
    for name, (pack, unpack) in PACKERS.items():
        packed = pack(codes.astype(np.int8).tobytes())
        seconds, _ = timed(lambda u=unpack, p=packed: np.frombuffer(u(p), np.int8).astype(np.int64))
        peers[f"int8 + {name}"] = (len(packed), seconds)
    compare(capsys, "decode 1M codes", len(coded), benchmark.stats.stats.median, peers)


def kernels(seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A million codes of 3×3 kernels whose output and input channels have scales of their own."""
    random = np.random.default_rng(seed)
    scales = random.lognormal(0, 0.4, (340, 1, 1, 1)) * random.lognormal(0, 0.4, (1, 330, 1, 1))
    return np.rint(random.laplace(0, scales, (340, 330, 3, 3))).astype(np.int64)


def test_context_coding_of_a_million_integers(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    codes = kernels()
    context.encode_tensors([codes[:1, :1]])  # compiled
    seconds, static = timed(lambda: encode_integers(codes))
    coded = benchmark(context.encode_tensors, [codes])
    peers = {"static frequencies": (len(static), seconds)}
    compare(capsys, "context-code 1M codes", len(coded), benchmark.stats.stats.median, peers)


def test_context_decoding_of_a_million_integers(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    codes = kernels()
    coded, static = context.encode_tensors([codes]), encode_integers(codes)
    assert coded is not None and (benchmark(context.decode_tensors, coded, [codes.shape])[0] == codes).all()
    seconds, _ = timed(lambda: decode_integers(static, codes.size))
    peers = {"static frequencies": (len(static), seconds)}
    compare(capsys, "context-decode 1M codes", len(coded), benchmark.stats.stats.median, peers)


@pytest.fixture(scope="module")
def network() -> dict[str, np.ndarray[Any, Any]]:
    """Codes of the weights of a ResNet-56 by name, and its BatchNorms and bias as floats."""
    tensors = blueprint.state(blueprint.skeleton(ARCHITECTURE, ARGUMENTS, {}, {}))
    return {
        name: laplace(tensor.numel(), seed).reshape(tensor.shape) if tensor.ndim > 1 else np.ones(tensor.shape)
        for seed, (name, tensor) in enumerate(tensors.items())
    }


def compressed(network: dict[str, np.ndarray[Any, Any]]) -> Compressed:
    weights = {name: array for name, array in network.items() if array.ndim > 1}
    others = {name: array for name, array in network.items() if array.ndim == 1}
    parts = (
        uniform.part(list(weights), list(weights.values()), [2.0**-6] * len(weights), "weights"),
        raw.part(list(others), list(others.values()), "norm_bias", "float16"),
    )
    return Compressed(ARCHITECTURE, ARGUMENTS, parts, {})


def saved(network: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """The peer: `torch.save` of int8 codes, a step for each tensor, and fp16 for the rest."""
    buffer = io.BytesIO()
    whole = {
        name: (torch.from_numpy(array).to(torch.int8), 2.0**-6) if array.ndim > 1 else torch.from_numpy(array).half()
        for name, array in network.items()
    }
    torch.save(whole, buffer)
    return buffer.getvalue()


def loaded(data: bytes) -> dict[str, torch.Tensor]:
    stored = torch.load(io.BytesIO(data), weights_only=True)
    return {n: v[0].float() * v[1] if isinstance(v, tuple) else v.float() for n, v in stored.items()}


def test_encode_resnet56(benchmark: Any, capsys: pytest.CaptureFixture[str], network: Any) -> None:
    data, peers = benchmark(encode, compressed(network)), {}
    for name, (pack, _) in PACKERS.items():
        seconds, packed = timed(lambda pack=pack: pack(saved(network)))
        peers[f"torch.save + {name}"] = (len(packed), seconds)
    compare(capsys, "encode ResNet-56", len(data), benchmark.stats.stats.median, peers)


def test_decode_resnet56(benchmark: Any, capsys: pytest.CaptureFixture[str], network: Any) -> None:
    data, peers = encode(compressed(network)), {}
    reproduction = benchmark(decode, data)
    for name, (pack, unpack) in PACKERS.items():
        packed = pack(saved(network))
        seconds, tensors = timed(lambda u=unpack, p=packed: loaded(u(p)))
        assert all(torch.equal(tensors[n], t) for n, t in blueprint.state(reproduction).items())
        peers[f"torch.save + {name}"] = (len(packed), seconds)
    compare(capsys, "decode ResNet-56", len(data), benchmark.stats.stats.median, peers)
