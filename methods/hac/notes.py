"""What the formats would take: the papers' accounting, and the bytes of the suite's own coder for the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from benchmarks.bitstream import integers
from methods.hac.canonical import WORD
from methods.hac.coding import LARGEST_DICTIONARY, Group, dictionary
from methods.hac.formats import CODED, FORMATS, all_bits, lengths_of, symbols_of
from methods.hac.kernels import Array
from methods.hac.layers import KINDS, Kind, Scope, groups_of
from methods.interface import Json


def psi(matrices: Sequence[Array], values: Array) -> dict[str, float]:
    """ψ of each format: bits of all matrices (columns, rows) / those of dense fp32.

    As in the papers, the table of column starts is left out, which files have. The dictionary counts with 32 bits for each
    value, a Huffman code with 8 for the length of each symbol.
    """
    known = len(values)
    symbols = [symbols_of(matrix, values) for matrix in matrices]
    codes = lengths_of([(name, own) for name in CODED for own in symbols], known)
    found = [all_bits(own, known, codes) for own in symbols]
    starts = WORD * sum(len(matrix) for matrix in matrices)
    extra = {
        "map": WORD * known,
        "hac": (WORD + 8) * (known + 1) - starts,
        "shac": (WORD + 8) * known - starts,
    }
    whole = WORD * sum(matrix.size for matrix in matrices)
    return {name: (sum(one[name] for one in found) + extra.get(name, 0)) / whole for name in FORMATS if name != "dense"}


@dataclass(frozen=True)
class Stored:
    """How layers are stored: the format of each weight by name, and their bytes with dictionary and codes."""

    formats: Mapping[str, str]
    size: int


def notes(
    network: nn.Module, names: Mapping[Kind, list[str]], scope: Scope, resident: Stored | None = None
) -> dict[str, Json]:
    """For each kind of layers: the density, the number of values, the formats, ψ, and bytes beside those of the suite's coder.

    `bytes` are the weights in the chosen formats, `context_bytes` the dictionary in fp32 and the symbols in the shorter of the
    suite's entropy codes, which allow no access at random. ψ is that of a shared dictionary (`scope` "unified"). `resident` is
    how dense layers are stored that stay compressed in memory.
    """
    found: dict[str, Json] = {}
    for kind in KINDS:
        groups = [[_matrix(network, name) for name in own] for own in groups_of(names[kind], scope) if own]
        if not groups:
            continue
        matrices = [matrix for group in groups for matrix in group]
        known = [dictionary(group) for group in groups]
        stored = resident if resident is not None and kind == "dense" else _stored(names[kind], groups)
        entry: dict[str, Json] = {
            "density": sum(int(np.count_nonzero(m)) for m in matrices) / sum(m.size for m in matrices),
            "values": sum(map(len, known)),
            "formats": dict(stored.formats),
            "bytes": stored.size,
        }
        if all(len(values) <= LARGEST_DICTIONARY for values in known):
            symbols = [[symbols_of(m, v) for m in group] for group, v in zip(groups, known, strict=True)]
            coded = (integers.shorter(own, integers.encode_static(own))[1] for own in symbols)
            entry["context_bytes"] = sum(map(len, coded)) + 4 * sum(map(len, known))
            if scope == "unified":
                entry["psi"] = {name: round(value, 6) for name, value in psi(matrices, known[0]).items()}
        found[kind] = entry
    return found


def _stored(names: Sequence[str], groups: Sequence[list[Array]]) -> Stored:
    """By the codec, in the shortest formats."""
    chosen = [Group.of(group) for group in groups]
    formats = dict(zip(names, (name for group in chosen for name in group.formats), strict=True))
    return Stored(formats, sum(map(_bytes, chosen)))


def _bytes(group: Group) -> int:
    lengths = sum(len(block) for _, block in group.lengths)
    return 4 * len(group.values) + lengths + sum(len(stream) + len(indices) for stream, indices in group.streams())


def _matrix(network: nn.Module, name: str) -> Array:
    weight: Array = network.get_parameter(name).detach().numpy()
    return weight.reshape(len(weight), -1)
