"""Linear layers whose weights stay compressed in the decoded network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from benchmarks.bitstream import codecs
from methods.families.slim import Slim
from methods.hac.canonical import Code
from methods.hac.coding import dictionary
from methods.hac.formats import CODED, Format, all_bits, lengths_of, symbols_of
from methods.hac.modules import described
from methods.hac.notes import Stored
from methods.interface import ModuleSpec, Part


def resident(network: nn.Module, groups: Mapping[str, int]) -> tuple[Slim, list[Part], Stored]:
    """The replacements of linear layers, by the group of each weight, the parts with their weights, and what these take.

    Each layer is in the shorter of HAC and sHAC. Layers of a group share a code and a dictionary. The dictionary is stored
    once, the lengths of the code with each layer.
    """
    edits: dict[str, ModuleSpec] = {}
    tied: dict[str, str] = {}
    parts: list[Part] = []
    formats: dict[str, str] = {}
    for group in dict.fromkeys(groups.values()):
        layers = {
            name.removesuffix(".weight"): network.get_submodule(name.removesuffix(".weight"))
            for name, own in groups.items()
            if own == group
        }
        matrices = {path: layer.get_parameter("weight").detach().numpy() for path, layer in layers.items()}
        values = dictionary(list(matrices.values()))
        symbols = {path: symbols_of(matrix, values) for path, matrix in matrices.items()}
        codes = lengths_of([(name, own) for name in CODED for own in symbols.values()], len(values))
        chosen: dict[str, Format] = {}
        for path, own in symbols.items():
            bits = all_bits(own, len(values), codes)
            chosen[path] = "hac" if bits["hac"] <= bits["shac"] or not own.any() else "shac"
        formats |= {f"{path}.weight": name for path, name in chosen.items()}
        lengths = lengths_of([(name, symbols[path]) for path, name in chosen.items()], len(values))
        first = next(iter(layers))
        for path, layer in layers.items():
            code = Code.of(lengths[chosen[path]])
            edits[path], own_parts = described(path, layer, chosen[path], values, code)  # type: ignore[arg-type]
            shared = path != first
            if shared:
                tied[f"{path}.values"] = f"{first}.values"
            parts += [part for part in own_parts if not (shared and part.targets == (f"{path}.values",))]
    tensors = {
        target: torch.from_numpy(np.ascontiguousarray(values))
        for part in parts
        for target, values in zip(part.targets, part.data["values"], strict=True)
    }
    size = sum(len(stream) for part in parts for _, stream in codecs.get(part.codec).encode(part).streams)
    return Slim(edits, tied, tensors), parts, Stored(formats, size)
