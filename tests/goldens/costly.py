"""Files that cost a decoder most for their length or for their values, and files that would cost more than it allows.

Most are without any use, but all are well formed. Their networks have about a million values.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import constriction
import msgspec
import numpy as np
from goldens.hostile import built, deflated, packb, sealed

from benchmarks.bitstream import blueprint, context
from benchmarks.bitstream.bytesio import join_blocks, varints, zigzag
from benchmarks.bitstream.entropy import encode_integers
from methods.surp import rounds as surp_rounds
from methods.surp import sequential as surp_sequential
from methods.surp import visiting

STEP = struct.pack("<f", 0.5)
ARCHITECTURE, ARGUMENTS = "digits_cnn", {"width": 1, "classes": 1}
TARGETS = list(blueprint.state(blueprint.skeleton(ARCHITECTURE, ARGUMENTS, {}, {})))
VALUES = 1_048_433  # a prime: every position of a SuRP step belongs to a weight
Part = tuple[dict[str, Any], list[bytes]]  # what a codec reads: meta and streams


def wide(codec: str, part: Part) -> bytes:
    """A file whose `codec` fills one tensor of VALUES values; all others are small and constant."""
    edits = {"2": built("Linear", in_features=VALUES, out_features=1, bias=False)}
    return _file(edits, [(codec, ["2.weight"], part)])


def many(codec: str, count: int, part: Part, parts: int = 1) -> bytes:
    """A file with `count` tensors of one value, filled by one part, or by `parts` equal ones in turn."""
    edits = {"2": built("Sequential", *[built("Linear", in_features=1, out_features=1, bias=False)] * count)}
    names = [f"2.{i}.weight" for i in range(count)]
    return _file(edits, [(codec, names[i::parts], part) for i in range(parts)])


def _file(edits: dict[str, Any], parts: Sequence[tuple[str, list[str], Part]]) -> bytes:
    entries: list[Any] = [["constant", TARGETS, {"value": 0.5}, []]]
    entries += [[codec, names, meta, [["weights", len(s)] for s in streams]] for codec, names, (meta, streams) in parts]
    payload = b"".join(stream for _, _, (_, streams) in parts for stream in streams)
    return sealed(deflated(packb([ARCHITECTURE, ARGUMENTS, edits, {}, entries])), payload)


def nested(depth: int) -> dict[str, Any]:
    """A map with a list in a list and so on."""
    return {"width": msgspec.Raw(b"\x91" * depth + b"\x90")}


def codebook(books: int, size: int, width: int, column: bytes, packed: bool = True) -> Part:
    meta = {"kind": "additive", "dtype": "float16", "shape": [books, size, width], "packed": [packed] * books}
    streams = [bytes(2 * books * size * width), STEP, join_blocks([column] * books)]
    return meta | {"per_channel": [False], "masked": False}, streams


def rounds(hits: Sequence[int], refinements: bytes = b"", mu: float = 1.0) -> Part:
    """SuRP in rounds that touch these numbers of coordinates, without gaps between them."""
    table, total = np.array([hits]).T, sum(hits)
    low = surp_rounds._gap_bits(table, np.array([VALUES]))
    streams = [varints(hits), encode_integers([0] * total), bytes((int(low.sum()) + 7) // 8), refinements]
    meta = {"mu": mu, "alpha": 1.0, "decay": 0.999, "rounds": len(hits), "last": 0.0}
    return meta, [*streams, bytes((total + 7) // 8), STEP]


def above(times: int) -> bytes:
    """The answers of one coordinate that is above the threshold so many times."""
    levels = [min(64 * (1 + k) // (2 + k), 63) / 64 for k in range(times + 1)]
    answers = np.append(np.ones(times, np.int32), np.int32(0))
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(answers, constriction.stream.model.Bernoulli(perfect=False), np.array(levels))
    return bytes(coder.get_compressed().astype("<u4").tobytes())


def sequential(unary: int, stages: bytes, *masks: bytes) -> Part:
    """SuRP step by step: eight steps for each byte of `unary`, each to the first coordinate of its order."""
    steps = 8 * unary
    _, b, inverse = visiting.orders(1, VALUES, steps)
    touched = len(np.unique((VALUES - b) % VALUES * inverse % VALUES))
    meta = {"mu": 1.0, "alpha": 1.0, "decay": 0.9, "seed": 1, "steps": steps}
    parameters = encode_integers([0] * -(-steps // surp_sequential.RUN))
    return meta, [stages, parameters, bytes(unary), b"", bytes((touched + 7) // 8), *masks, STEP]


def coded(*tensors: Any) -> bytes:
    """The context-coded stream of integer tensors."""
    stream = context.encode_tensors([np.asarray(tensor, np.int64) for tensor in tensors])
    assert stream is not None
    return stream


def adaptive(*tensors: Sequence[int]) -> Part:
    """Context-coded tensors of one dimension, on a grid."""
    return {"per_channel": [False] * len(tensors), "adaptive": True}, [coded(*tensors), STEP * len(tensors)]


def adaptive_codebook(books: int, width: int) -> Part:
    """Additive codebooks of two codewords for one tensor, whose codes are context-coded together."""
    codes = np.random.default_rng(1).integers(0, 60, (books, -(-VALUES // width))) == 0
    meta, (words, scales, _) = codebook(books, 2, width, b"")
    return meta | {"adaptive": True}, [words, scales, coded(codes)]


def costly() -> dict[str, bytes]:
    """Files by what is costly about them, just within the bounds."""
    n = VALUES
    uniform = {"per_channel": [False]}
    rare = (np.arange(n) % 100 == 0).astype(np.int64)
    skewed = varints([zigzag(0), 2 << 1, 0, 2**20 - 1, 1]) + bytes(4)  # 2^20 zeros or ones from one word
    even = varints([zigzag(0), 4 << 1, 0, *[1024] * 4]) + bytes(n // 16 * 4)
    alike, ones = encode_integers([3] * 9), encode_integers([1] * 9)  # a number, whatever the count
    model = varints([zigzag(0), 1024 << 1 | 1, 0, 512, 4095]) + bytes(4)  # 1,024 frequencies from two numbers
    return {
        "a constant": wide("constant", ({"value": 1.0}, [])),
        "indices of no bits": wide("index", ({"limit": 1, "packed": [True]}, [join_blocks([b""])])),
        "indices of a bit": wide("index", ({"limit": 2, "packed": [True]}, [join_blocks([bytes(-(-n // 8))])])),
        "alike indices": wide("index", ({"limit": 9, "packed": [False]}, [join_blocks([alike])])),
        "alike codes": wide("uniform", (uniform, [join_blocks([alike]), STEP])),
        "a word for all codes": wide("uniform", (uniform, [join_blocks([skewed]), STEP])),
        "two bits for a code": wide("uniform", (uniform, [join_blocks([even]), STEP])),
        "a value among a hundred zeros": wide("uniform", adaptive(rare)),
        "a context-coded mask": wide("mask", ({"adaptive": True}, [coded(rare)])),
        "context-coded indices": wide("index", ({"limit": 2, "packed": [False], "adaptive": True}, [coded(rare)])),
        "context-coded values and zeros": wide(
            "sparse", ({"kind": "uniform", "adaptive": True}, [b"", coded(rare), STEP])
        ),
        "a context-coded support": wide(
            "sparse",
            ({"kind": "float16", "adaptive": True}, [coded(rare), join_blocks([bytes(2 * int(rare.sum()))]), b""]),
        ),
        "context-coded codes": wide("codebook", adaptive_codebook(8, 8)),
        "context-coded codes of a value": wide("codebook", adaptive_codebook(2, 1)),
        "context models of small tensors": many("uniform", 1000, adaptive(*[[3]] * 1000)),
        "context models of a tensor": many("uniform", 1000, adaptive([3]), parts=1000),
        "a word for a mask": wide("mask", ({}, [join_blocks([skewed])])),
        "a mask of nothing": wide("sparse", ({"kind": "uniform"}, [join_blocks([skewed]), join_blocks([b""]), STEP])),
        "a mask of all": wide("sparse", ({"kind": "uniform"}, [join_blocks([ones]), join_blocks([alike]), STEP])),
        "raw": wide("raw", ({"dtype": "float32"}, [bytes(4 * n)])),
        "raw fp16": wide("raw", ({"dtype": "float16"}, [bytes(2 * n)])),
        "books of a codeword": wide("codebook", codebook(16, 1, 1, b"")),
        "long codewords": wide("codebook", codebook(16, 1, 4096, b"")),
        "many alike columns": wide("codebook", codebook(100, 512, 1, alike, packed=False)),
        "models of small tensors": many(
            "uniform", 1000, ({"per_channel": [False] * 1000}, [join_blocks([model] * 1000), STEP * 1000])
        ),
        "models of small sparse tensors": many(
            "sparse", 1000, ({"kind": "uniform"}, [join_blocks([b] * 1000) for b in (ones, model)] + [STEP * 1000])
        ),
        "parts of a tensor": many("uniform", 1000, (uniform, [join_blocks([model]), STEP]), parts=1000),
        "rounds without a weight": wide("surp.rounds", rounds([0] * 2000)),
        "rounds of a weight": wide("surp.rounds", rounds([1] * 1000)),
        "many weights in a round": wide("surp.rounds", rounds([1, n - 1])),
        "many weights in many rounds": wide("surp.rounds", rounds([1, n // 2, *[1] * 50])),
        "a weight far above the threshold": wide("surp.rounds", rounds([1], above(2000), 1e-6)),
        "steps of weights that all survive": wide("surp.sequential", sequential(1, b"\x08")),
        "steps of weights that survive by a mask": wide("surp.sequential", sequential(1, b"\x08", join_blocks([ones]))),
        "steps of a bit": wide("surp.sequential", sequential(n // 8, varints([n // 8 * 8]))),
        "stages of a step": wide("surp.sequential", sequential(n // 64, b"\x01" * (n // 64 * 8))),
        "stages without a step": wide("surp.sequential", sequential(1, bytes(n) + b"\x08")),
    }


def excessive() -> dict[str, bytes]:
    """Files by what is beyond the bounds: a decoder without them needs gigabytes, minutes or a deep stack."""
    square = {"2": built("Linear", in_features=2**14, out_features=2**14 - 1, bias=False)}
    ballast = np.random.default_rng(1).bytes(2**18)  # so long a file may have many values
    long = {"limit": 1, "packed": [True], "ballast": ballast}
    files = {
        "200 codebooks of a codeword": wide("codebook", codebook(200, 1, 1, b"")),
        "1,000 codebooks of a codeword": wide("codebook", codebook(1000, 1, 1, b"")),
        "1,000 codebooks of alike codewords": wide(
            "codebook", codebook(1000, 2, 1, encode_integers([1]), packed=False)
        ),
        "three codes for a value": wide("codebook", adaptive_codebook(3, 1)),
        "2^28 indices of no bits": _file(square, [("index", ["2.weight"], (long, [join_blocks([b""])]))]),
        "a weight 10,000 times above the threshold": wide("surp.rounds", rounds([1], above(10_000), 1e-9)),
        "a weight a million times above the threshold": wide("surp.rounds", rounds([1], above(10**6), 1e-9)),
        "half the weights in 400 rounds": wide("surp.rounds", rounds([1, VALUES // 2, *[1] * 398])),
        "half the weights in 2,000 rounds": wide("surp.rounds", rounds([1, VALUES // 2, *[1] * 1998])),
        "4,107 tensors": many("constant", 4090, ({"value": 1.0}, [])),
        "10,000 modules": many("constant", 10_000, ({"value": 1.0}, [])),
    }
    for depth in (200, 900, 960, 980, 985, 990, 994, 997):
        files[f"arguments nested {depth} deep"] = sealed(deflated(packb([ARCHITECTURE, nested(depth), {}, {}, []])))
        files[f"meta nested {depth} deep"] = wide("constant", (nested(depth), []))
        edits = {"2": built("Identity", **nested(depth))}
        files[f"a module's arguments nested {depth} deep"] = _file(edits, [])
    return files
