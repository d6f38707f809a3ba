"""A small network for each codec, made by integer arithmetic alone: the same one with every release of every library.

Golden files are these networks as the encoder of this format version wrote them (`<name>.rbn`, and in `goldens.json`
the hash of what each decodes to). GENERATE_GOLDENS=1 writes them anew; a change of theirs means that files of earlier
releases are lost, so the format version has to rise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.bitstream import blueprint, codecs
from benchmarks.bitstream.codecs import codebook, constant, index, mask, raw, sparse, uniform, verbatim
from benchmarks.bitstream.modules import (
    batch_norm2d,
    conv2d,
    gather,
    identity,
    joined_conv2d,
    linear,
    quantised_layer,
    sequential,
)
from methods.approxconv.bases import Approximation
from methods.hac.canonical import Code, code_lengths
from methods.hac.coding import dictionary
from methods.hac.formats import symbols_of
from methods.hac.modules import described
from methods.interface import Compressed, ModuleSpec, Part
from methods.tensor_reordering.transform import Reordered

FOLDER = Path(__file__).parent
ARCHITECTURE, ARGUMENTS = "digits_cnn", {"width": 4}
# Its tensors: 0.weight (4, 1, 3, 3), 3.weight (8, 4, 3, 3), 7.weight (8, 8, 3, 3), 12.weight (10, 8), 12.bias (10,), and
# the BatchNorms 1 (4 channels), 4 and 8 (8 channels) with weight, bias, running_mean and running_var.


def integers(shape: Sequence[int], low: int, high: int, salt: int = 0) -> npt.NDArray[np.int64]:
    """Integers in [low, high) that look random: a multiplicative hash of the position and `salt`."""
    k = np.arange(math.prod(shape), dtype=np.int64) + 7919 * salt + 1
    mixed = k * 2654435761 & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 15) * 40503 & 0xFFFFFFFF
    return (low + (mixed >> 8) % (high - low)).reshape(shape)


def peaked(shape: Sequence[int], salt: int = 0) -> npt.NDArray[np.int64]:
    """Small integers, most of them near 0, as quantised weights are."""
    return integers(shape, -3, 4, salt) * integers(shape, 0, 3, salt + 1) // 2


def floats(shape: Sequence[int], salt: int = 0) -> npt.NDArray[np.float32]:
    """Positive numbers of few bits: multiples of 1/64 up to 2, which fp16 holds exactly."""
    return integers(shape, 1, 129, salt).astype(np.float32) / 64


def whole(
    parts: Sequence[Part], edits: Mapping[str, ModuleSpec] | None = None, tied: Mapping[str, str] | None = None
) -> Compressed:
    """The small network with `parts`; what they do not fill is stored as raw fp16 numbers."""
    edits, tied = edits or {}, tied or {}
    tensors = blueprint.state(blueprint.skeleton(ARCHITECTURE, ARGUMENTS, edits, tied), tied)
    filled = {target for part in parts for target in part.targets}
    rest = {name: floats(t.shape, salt) for salt, (name, t) in enumerate(tensors.items()) if name not in filled}
    others = (raw.part(list(rest), list(rest.values()), "norm_bias", "float16"),) if rest else ()
    return Compressed(ARCHITECTURE, ARGUMENTS, (*parts, *others), {}, edits, tied)


def _codebook() -> Compressed:
    """Sums of two codewords for two layers with a scale each, one of them by channel; rows of one with a mask for a third."""
    count = (8 * 4 * 9) // 8 + -(-10 * 8 // 8)
    codes = integers((count, 2), 0, 16)
    words = (integers((2, 16, 8), -64, 65, 1) / 64).astype(np.float32)
    additive = codebook.part(["3.weight", "12.weight"], codes, words, [np.float32(0.25), floats((10,), 2)])
    kept = integers((8, 8, 3, 3), 0, 3, 3) == 0
    rows = integers((-(-int(kept.sum()) // 6), 2), 0, 4, 4)
    words = (integers((2, 4, 3), -64, 65, 5) / 64).astype(np.float32)
    product = codebook.part(["7.weight"], rows, words, [np.float32(0.5)], "product", "float32", [kept])
    return whole([additive, product])


def _constant() -> Compressed:
    parts = [constant.part([f"{i}.running_mean" for i in (1, 4, 8)], 0.0, "norm_bias")]
    return whole([*parts, constant.part(["12.bias"], -0.375, "norm_bias")])


def _context() -> Compressed:
    """A context-coded part with every kind of decision, a step per channel, and a part that static frequencies store best."""
    far = peaked((10, 8), 2) + np.where(integers((10, 8), 0, 20, 3) == 0, 1 << 20, 0)
    kernels = peaked((8, 8, 3, 3), 4) * (1 + np.arange(8)).reshape(8, 1, 1, 1) ** 2
    kernels[2, 3] *= 10_000  # escaped
    steps = [floats((8,), 5), np.float32(0.0078125)]
    adaptive = uniform.part(["7.weight", "12.weight"], [kernels, far], steps, "weights")
    return whole([adaptive, uniform.part(["3.weight"], [np.full((8, 4, 3, 3), 3)], [np.float32(0.25)], "weights")])


def _index() -> Compressed:
    """Packed (a permutation of channels) and entropy coded (codewords, most of them alike)."""
    edits = {"2": gather.spec(4)}
    codewords = integers((8, 8, 3, 3), 0, 40, 1) // 39 * 200
    parts = [index.part(["2.index"], [np.array([2, 0, 3, 1])], 4)]
    return whole([*parts, index.part(["7.weight"], [codewords], 256)], edits)


def _mask() -> Compressed:
    targets, shapes = ["1.weight", "7.weight", "8.weight"], [(4,), (8, 8, 3, 3), (8,)]
    masks = [integers(shape, 0, 10, salt) < 4 - salt for salt, shape in enumerate(shapes)]
    return whole([mask.part(targets, masks)])


def _raw() -> Compressed:
    thirds = integers((8, 4, 3, 3), -500, 500).astype(np.float32) / np.float32(3)
    return whole([raw.part(["3.weight", "12.weight"], [thirds, floats((10, 8), 1)], "weights")])


def _sparse() -> Compressed:
    values = [peaked((8, 4, 3, 3)) // 3, np.zeros((8, 8, 3, 3))]
    return whole(
        [
            sparse.part(["3.weight", "7.weight"], values, "weights", steps=[0.125, 0.25]),
            sparse.part(["12.weight"], [peaked((10, 8), 4) / 7], "weights"),
            sparse.part(["0.weight"], [peaked((4, 1, 3, 3), 6) / 7], "weights", dtype="float32"),
        ]
    )


def _uniform() -> Compressed:
    """One step, a step per channel, and codes so far apart that some escape the table."""
    far = peaked((10, 8), 2) + np.where(integers((10, 8), 0, 20, 3) == 0, 1 << 20, 0)
    steps = [np.float32(0.1), integers((8,), 1, 50).astype(np.float32) / 256, np.float32(2.0**-12)]
    codes = [peaked((8, 4, 3, 3)), peaked((8, 8, 3, 3), 1), far]
    return whole([uniform.part(["3.weight", "7.weight", "12.weight"], codes, steps, "weights")])


def _verbatim() -> Compressed:
    """Bytes of every kind, in place of a bias."""
    return whole([verbatim.part("12.bias", bytes([0, 1, 127, 128, 255, 10, 13, 0, 200, 26]))])


def _edits() -> Compressed:
    """A narrower convolution with what follows it, a pair of factors in place of a convolution, and an Identity."""
    edits = {
        "0": conv2d.spec(1, 3, kernel_size=3, padding=1, bias=False),
        "1": batch_norm2d.spec(3),
        "2": identity.spec(),
        "3": sequential.spec(
            conv2d.spec(3, 2, kernel_size=(3, 1), padding=(1, 0)),
            conv2d.spec(2, 8, kernel_size=(1, 3), padding=(0, 1)),
        ),
        "12": linear.spec(8, 10, bias=True),
    }
    targets, shapes = ["0.weight", "3.0.weight", "3.1.weight"], [(3, 1, 3, 3), (2, 3, 3, 1), (8, 2, 1, 3)]
    codes = [peaked(shape, salt) for salt, shape in enumerate(shapes)]
    return whole([uniform.part(targets, codes, [0.5, 0.25, 0.125], "weights")], edits)


def _tied() -> Compressed:
    """Two BatchNorms that share their weight; the bias of one is the other's as well."""
    return whole([], tied={"8.weight": "4.weight", "4.bias": "8.bias"})


def _joined() -> Compressed:
    """Two convolutions in a row that share a piece of a kernel, each with a piece of its own."""
    edits = {
        "0": conv2d.spec(1, 4, kernel_size=3, padding=1, bias=False),
        "2": _square(4, (3, 1), 0),
        "5": identity.spec(),
        "3": _square(8, (3, 1), 1),
        "7": _square(8, (3, 5), 1),
    }
    return whole([], edits, {"7.weights.0": "3.weights.0"})


def _square(channels: int, pieces: tuple[int, ...], axis: int) -> ModuleSpec:
    """A joined 3×3 convolution, its arguments in the order in which the golden file has them."""
    made = joined_conv2d.spec(channels, pieces, axis, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    order = ("channels", "kernel_size", "stride", "padding", "pieces", "axis")
    return ModuleSpec(made.kind, {name: made.arguments[name] for name in order})


def _quantised() -> Compressed:
    """Layers that read quantised inputs, with a sign and without, and one that reads them as they are."""
    first, second = (conv2d.spec(n, 4, kernel_size=3, padding=1, bias=False) for n in (1, 4))
    edits = {
        "0": quantised_layer.spec(first, weight_bits=8, input_bits=0, signed=False),
        "2": quantised_layer.spec(second, weight_bits=4, input_bits=2, signed=True),
        "3": quantised_layer.spec(
            conv2d.spec(4, 8, kernel_size=3, padding=1), weight_bits=2, input_bits=4, signed=False
        ),
    }
    return whole([], edits)


def _surp(mode: str, pruned: float) -> Compressed:
    """All parameters by one pass over magnitudes that are integers over 1024; those up to `pruned` are zero."""
    codec = codecs.get(f"surp.{mode}")
    shapes = {n: tuple(p.shape) for n, p in blueprint.skeleton(ARCHITECTURE, ARGUMENTS, {}, {}).named_parameters()}
    sizes = list(map(math.prod, shapes.values()))
    magnitudes = np.maximum(integers((sum(sizes),), 0, 33) ** 2 / 1024, 2.0**-40)  # the smallest are never selected
    magnitudes[magnitudes <= pruned] = 0
    source = codec.Source(magnitudes, integers((sum(sizes),), 0, 2, 1) == 1, floats((len(shapes),)))
    made = codec.select(magnitudes, (0.7,), **({"seed": 5} if mode == "sequential" else {}), alpha=10.0)
    return whole([codec.part(list(shapes), source, sizes, made, made.marks[0])])


def _ntk(name: str) -> Compressed:
    """Ternary kernels, packed or drawn from seeds, and activations of both kinds."""
    codec, piecewise = codecs.get(f"ntk.{name}"), "ntk.piecewise_constant"
    targets, shapes = ["3.weight", "7.weight", "12.weight"], [(8, 4, 3, 3), (8, 8, 3, 3), (10, 8)]
    if name == "packed":
        data = [integers(shape, -1, 2, salt) for salt, shape in enumerate(shapes)]
    else:
        data = [(144, 144, 1), (29, 28, 2**61 + 7), (0, 80, 12345)]
    intervals = ((-1.5, 0.75), (-0.25, 0.125))
    edits = {
        "2": ModuleSpec(piecewise, {"intervals": intervals, "levels": (0.5, -0.25, 0.0625)}),
        "5": ModuleSpec(piecewise, {"intervals": intervals[:1], "levels": (0.5, -0.25)}),
        "9": ModuleSpec("ntk.centred_relu", {"centre": 0.375, "width": 16}),
    }
    return whole([codec.part(targets, data, [0.5, 1.25, 1.0])], edits)


def _approxconv(name: str) -> Compressed:
    """Kernels of coefficients of both kinds of basis, or a layer that mixes filtered channels."""
    kernels, minifloat = codecs.get("approxconv.kernels"), codecs.get("approxconv.minifloat")
    if name == "minifloat":
        arguments = {"in_channels": 4, "out_channels": 8, "size": 3, "order": 2, "kind": "cosine", "padding": (1, 1)}
        values = [floats((8, 4, 2, 2)) - 1, floats((10, 8), 1) * 2.0**-9]
        part = minifloat.part(["3.coefficients", "12.weight"], values, 4, "weights")
        return whole([part], {"3": ModuleSpec("approxconv.basis_conv2d", arguments)})
    coefficients = integers((8, 4, 2, 2), -9, 10)
    inner = uniform.part(["3.weight"], [coefficients], [np.float32(0.125)], "weights")
    series = kernels.part(["3.weight"], [Approximation(coefficients, "chebyshev", 3)], inner)
    values = floats((8, 8, 1, 1), 1) - 1
    own = raw.part(["7.weight"], [values], "weights", "float16")
    stored = kernels.part(["7.weight"], [Approximation(values, "pca", 3, floats((1, 9), 2) - 1)], own)
    return whole([series, stored])


def _reordered() -> Compressed:
    """Two weights with permuted columns and one with the given order."""
    codec = codecs.get("tensor_reordering.reordered")
    shapes = {"3.weight": (8, 4, 3, 3), "7.weight": (8, 8, 3, 3), "12.weight": (10, 8)}
    found = [
        Reordered(
            floats((groups, kept), salt) - 1,
            np.argsort(integers((math.prod(shape) // groups,), 0, 2**20, salt), kind="stable") if salt < 2 else None,
            shape,
        )
        for salt, (shape, groups, kept) in enumerate(zip(shapes.values(), (4, 8, 4), (40, 1, 20), strict=True))
    ]
    parts = []
    for own in (slice(2), slice(2, None)):
        names, some = list(shapes)[own], found[own]
        parts.append(codec.part(names, some, raw.part(names, [f.coefficients for f in some], "weights")))
    return whole(parts)


def _matrices() -> Compressed:
    """Matrices in each format: two share a code, and sparse ones have empty columns."""
    codec = codecs.get("hac.matrices")
    full, thin = integers((8, 4, 3, 3), -3, 4), integers((8, 8, 3, 3), -40, 3, 1).clip(0)
    thin[5:] = 0
    weights = [full * 0.5, thin * 0.5, floats((10, 8))]
    return whole([codec.part(["3.weight", "7.weight", "12.weight"], weights, [0, 0, 1])])


def _resident() -> Compressed:
    """A linear layer in the code of its columns, and its biases."""
    layer = nn.Linear(8, 10)
    matrix = integers((10, 8), -2, 3).astype(np.float32) * 0.25
    layer.weight = nn.Parameter(torch.from_numpy(matrix))
    values = dictionary([matrix])
    code = Code.of(code_lengths(np.bincount(symbols_of(matrix, values).reshape(-1), minlength=len(values) + 1)))
    spec, parts = described("12", layer, "hac", values, code)
    return whole(parts, {"12": spec})


SAMPLES: dict[str, Callable[[], Compressed]] = {
    "approxconv.kernels": lambda: _approxconv("kernels"),
    "approxconv.minifloat": lambda: _approxconv("minifloat"),
    "codebook": _codebook,
    "constant": _constant,
    "context": _context,
    "edits": _edits,
    "hac.matrices": _matrices,
    "hac.matrices-resident": _resident,
    "index": _index,
    "joined": _joined,
    "mask": _mask,
    "ntk.packed": lambda: _ntk("packed"),
    "ntk.seeded": lambda: _ntk("seeded"),
    "quantised": _quantised,
    "raw": _raw,
    "sparse": _sparse,
    "surp.rounds": lambda: _surp("rounds", 0.1),
    "surp.sequential": lambda: _surp("sequential", 0.0),
    "surp.sequential-pruned": lambda: _surp("sequential", 0.1),
    "tensor_reordering.reordered": _reordered,
    "tied": _tied,
    "uniform": _uniform,
    "verbatim": _verbatim,
}


def digest(network: nn.Module) -> str:
    """SHA-256 of a network's tensors: names, shapes and values in little-endian bytes, shared ones under each name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        kind = "<f4" if tensor.is_floating_point() else "<i8"
        sha.update(f"{name} {tuple(tensor.shape)} {kind}\n".encode() + tensor.numpy().astype(kind).tobytes())
    return sha.hexdigest()
