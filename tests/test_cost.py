"""What decoding costs: memory and work are bounded by the length of a file and the number of values that it promises."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from goldens.costly import VALUES, costly, excessive, nested
from goldens.hostile import deflated, packb, sealed
from goldens.samples import ARCHITECTURE, ARGUMENTS, FOLDER, SAMPLES, whole

from benchmarks.bitstream import blueprint, bytes_by_role, decode, encode
from benchmarks.bitstream.codecs import codebook, raw
from benchmarks.bitstream.modules import linear, sequential
from benchmarks.errors import BitstreamError, MethodError, first_line
from methods.interface import Compressed
from methods.surp import rounds
from methods.surp.source import normalise

PER_BYTE, PER_VALUE = 1024, 48  # bytes of memory, as container.py states
COSTLY = costly()
MEASURE = """
import ctypes, gc, json, pathlib, resource, sys
from benchmarks.bitstream import decode
from benchmarks.errors import BitstreamError

def clear():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")

def status(key):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

warm, compiled, *paths = (pathlib.Path(path).read_bytes() for path in sys.argv[1:])
decode(warm), decode(compiled)
for data in [*paths[:1], *paths]:
    before = clear()
    decode(data)
    print(json.dumps(status("VmHWM") - before))
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory, fresh_python: Callable[..., str]) -> dict[str, int]:
    """By how many bytes each costly file raised the memory of a fresh process that decoded it."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak memory of a part of a process's life")
    folder: Path = tmp_path_factory.mktemp("costly")
    paths = [folder / f"{i}.rbn" for i in range(len(COSTLY))]
    for path, data in zip(paths, COSTLY.values(), strict=True):
        path.write_bytes(data)
    lines = fresh_python(MEASURE, FOLDER / "surp.sequential.rbn", FOLDER / "context.rbn", *paths).splitlines()
    return dict(zip(COSTLY, map(int, lines[1:]), strict=True))


@pytest.mark.parametrize("name", COSTLY)
def test_memory_is_bounded_by_bytes_and_values(name: str, peaks: dict[str, int]) -> None:
    assert peaks[name] < 4 * 2**20 + PER_BYTE * len(COSTLY[name]) + PER_VALUE * VALUES


def test_excessive_files_are_refused_for_what_they_exceed() -> None:
    """And not, say, because they are damaged: each of the bounds is met by a file."""
    reasons = {}
    for name, data in excessive().items():
        with pytest.raises(BitstreamError) as refused:
            decode(data)
        reasons[name] = str(refused.value)
    assert sum("too much work" in reason for reason in reasons.values()) == 3
    assert sum("needs more bits" in reason for reason in reasons.values()) == 2
    assert sum("too many rounds" in reason for reason in reasons.values()) == 2
    assert "more than the 1048576 that a file of digits_cnn" in reasons["2^28 indices of no bits"]
    assert "4107 tensors" in reasons["4,107 tensors"] and "4096 modules" in reasons["10,000 modules"]
    assert sum("nested more than 128 deep" in reason for reason in reasons.values()) >= 3


@pytest.mark.parametrize("frames", [0, 300, 600])
def test_nesting_is_refused_at_any_depth_of_the_callers_stack(frames: int) -> None:
    files = [sealed(deflated(packb([ARCHITECTURE, nested(n), {}, {}, []]))) for n in range(20, 1000)]

    def deep(left: int) -> None:
        if left:
            deep(left - 1)
            return
        for data in files:
            with pytest.raises(BitstreamError):
                decode(data)

    deep(frames)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        OverflowError("too large"),
        struct.error("unpack requires 4 bytes"),
        AttributeError("no such thing"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory\nframe #0: c10::alloc"),
        MethodError("a library is missing"),
        BitstreamError("two\nlines and \x1b[31mcolours"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_is_a_bitstream_error_of_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    data = (FOLDER / "raw.rbn").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(raw, "decode", fails)
        with pytest.raises(BitstreamError) as refused:
            decode(data)
    assert first_line(refused.value) == str(refused.value) != ""
    with monkeypatch.context() as patch:
        patch.setattr(blueprint, "allocate", fails)
        with pytest.raises(BitstreamError):
            decode(data)
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.bitstream.container._header", fails)
        with pytest.raises(BitstreamError):
            bytes_by_role(data)


def test_lack_of_memory_is_named() -> None:
    with pytest.raises(BitstreamError, match="memory is insufficient"), _allocating():
        decode((FOLDER / "raw.rbn").read_bytes())


class _allocating:
    """NumPy and PyTorch can't allocate."""

    def __enter__(self) -> None:
        self.empty = torch.empty_like
        torch.empty_like = self.fail  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        torch.empty_like = self.empty

    def fail(self, *_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")


def test_a_network_may_be_somewhat_larger_than_its_architecture_only() -> None:
    large, factor = 4000, blueprint.GROWTH
    pair = sequential.spec(linear.spec(8, large, bias=False), linear.spec(large, 10, bias=False))
    blueprint.skeleton(ARCHITECTURE, ARGUMENTS, {"12": pair}, {})  # few values are always fine
    most = factor * sum(
        t.numel() for t in blueprint.state(blueprint.skeleton("resnet", {"depth": 18}, {}, {})).values()
    )
    for rows, fits in ((most // 1024 - 20_000, True), (most // 1024, False)):
        edits = {"fc": linear.spec(1024, rows)}
        if fits:
            blueprint.skeleton("resnet", {"depth": 18}, edits, {})
        else:
            with pytest.raises(BitstreamError, match="that a file of resnet may hold"):
                blueprint.skeleton("resnet", {"depth": 18}, edits, {})


def test_shared_tensors_are_allocated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = SAMPLES["joined"]()
    network = blueprint.skeleton(sample.architecture, sample.arguments, sample.edits, sample.tied)
    wanted, real, made = len(blueprint.state(network)), torch.empty_like, []
    counters = sum(name.endswith("num_batches_tracked") for name, _ in network.named_buffers())
    monkeypatch.setattr(torch, "empty_like", lambda t, **options: made.append(t) or real(t, **options))
    blueprint.allocate(network, sample.tied)
    assert len(made) == wanted + counters


@pytest.mark.parametrize(("books", "size", "width"), [(100, 2, 8), (40, 256, 4), (32, 2, 36), (16, 1, 1)])
def test_codebooks_that_take_bytes_may_be_many(books: int, size: int, width: int) -> None:
    """What a method writes is far below the bound: every vector has an index of its own in every codebook."""
    generator = np.random.default_rng(books)
    codes = generator.integers(0, size, (-(-8 * 8 * 9 // width), books))
    words = generator.normal(size=(books, size, width)).astype(np.float16).astype(np.float32)
    network = decode(encode(whole([codebook.part(["7.weight"], codes, words, [np.float32(1.0)])])))
    expected = codebook.vectors(codes, words, "additive").reshape(-1)[: 8 * 8 * 9].reshape(8, 8, 3, 3)
    assert np.array_equal(network[7].weight.numpy(), expected)


def _surp(alpha: float, sparsity: float) -> Compressed:
    generator = np.random.default_rng(1)
    skeleton = blueprint.skeleton("digits_cnn", {"width": 16}, {}, {})
    tensors = {n: generator.laplace(size=tuple(p.shape)) for n, p in skeleton.named_parameters()}
    names = sorted(tensors, key=lambda name: tensors[name].size)
    source = normalise([tensors[name] for name in names])
    made = rounds.select(source.u, (sparsity,), alpha)
    part = rounds.part(names, source, [tensors[name].size for name in names], made, made.marks[0])
    rest = [name for name in blueprint.state(skeleton) if name not in tensors]
    values = [np.ones(blueprint.state(skeleton)[name].shape) for name in rest]
    return Compressed("digits_cnn", {"width": 16}, (part, raw.part(rest, values, "norm_bias")), {})


@pytest.mark.parametrize("alpha", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("sparsity", [0.3, 0.99])
def test_surp_in_rounds_is_far_below_its_bounds(alpha: float, sparsity: float, monkeypatch: pytest.MonkeyPatch) -> None:
    real = rounds._most_questions
    monkeypatch.setattr(rounds, "_most_questions", lambda n, streams: real(n, streams) // 3)
    monkeypatch.setattr(rounds, "WORK_PER_BYTE", rounds.WORK_PER_BYTE // 3)
    decode(encode(_surp(alpha, sparsity)))


def test_surp_does_not_write_what_its_decoder_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_most_questions", lambda n, streams: 3)
    with pytest.raises(BitstreamError, match="choose a higher alpha"):
        encode(_surp(1.0, 0.5))
