"""What replaces a network of random layers: the paper's ternary one, and its two baselines. The read-out is not part of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.bitstream.codecs import raw, sparse, uniform
from benchmarks.bitstream.modules import get as module_of
from benchmarks.networks.random_features import RandomFeatures
from methods.interface import Json, ModuleSpec, Part, Run, Task
from methods.ntk import activations, storage, weights
from methods.ntk.activations import PiecewiseConstant
from methods.ntk.matching import Last, replacements
from methods.ntk.moments import Steps, relu

Storage: TypeAlias = Literal["entropy", "packed", "seed"]
NAIVE = Steps(((-1.0, 1.0),), (1.0, 0.0))
QUANTISED = 2  # layers with the naive activation


@dataclass(frozen=True)
class Network:
    """`part` has the weights, `edits` the activations, and `features` computes what the read-out sees of prepared inputs."""

    point: Mapping[str, Json]
    part: Part
    edits: Mapping[str, ModuleSpec]
    features: Callable[[Tensor], Tensor]
    notes: Mapping[str, Json] = field(default_factory=dict)


def widths(task: Task) -> list[int]:
    """Those of the inputs and of the random layers."""
    return list(cast(Sequence[int], task.arguments["widths"]))[:-1]


def targets(task: Task) -> list[str]:
    """The names of the random weights."""
    return [f"layers.{number}.weight" for number in range(len(widths(task)) - 1)]


def matched(task: Task, eps: float, last: Last, stored: Storage, run: Run) -> Network:
    """Ternary weights with a share `eps` of zeros, and activations with the moments of the original ones."""
    sides = widths(task)
    made = replacements(len(sides) - 1, last)
    draws, codes = [], []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sides)):
        generator = run.generator("ternary", task.network, str(eps), number)
        seed = int(torch.randint(2**62, (), generator=generator))
        count = weights.signs(inputs * outputs, eps)
        draws.append((count, count, seed))
        codes.append(weights.ternary(inputs * outputs, count, count, seed).reshape(outputs, inputs))
    magnitudes = [weights.scale(eps)] * len(codes)
    if stored == "seed":
        part = storage.seeded_part(targets(task), draws, magnitudes)
    elif stored == "packed":
        part = storage.packed_part(targets(task), codes, magnitudes)
    else:
        part = uniform.part(targets(task), codes, magnitudes, "weights", adaptive=False)
    edits = {
        f"activations.{number}": activations.steps_spec(one.steps, one.moments.z, width)
        for number, (one, width) in enumerate(zip(made, sides[1:], strict=True))
    }
    modules = [cast(PiecewiseConstant, module_of(edit.kind).build(edit.arguments, ())) for edit in edits.values()]
    tensors = [torch.from_numpy(one) for one in codes]
    notes: dict[str, Json] = {
        "tau": [one.moments.tau for one in made],
        "intervals": [[list(pair) for pair in one.steps.intervals] for one in made],
        "levels": [list(one.steps.levels) for one in made],
        "residuals": [list(one.residuals) for one in made],
    }
    scale = float(np.float32(magnitudes[0]))
    return Network({"eps": eps}, part, edits, ternary_features(tensors, scale, modules), notes)


def ternary_features(
    codes: Sequence[Tensor], scale: float, modules: Sequence[PiecewiseConstant]
) -> Callable[[Tensor], Tensor]:
    """Computes the features (N, d) of inputs (N, F) as the decoded network does, with exact sums from the second layer on.

    The outputs of σ_T are l₀ + (l₁ − l₀) · b with b in {0, 1}: W · b is a product of int8, and l₀ adds a number for each row.
    """
    first = codes[0].T.float()
    rows = [code.sum(1, dtype=torch.int32) for code in codes]

    @torch.no_grad()
    def compute(x: Tensor) -> Tensor:
        sums = x @ first
        for code, row, module in zip(codes[1:], rows[1:], modules, strict=False):
            (inside,) = module.inside(sums * scale)
            low, high = module.levels
            sums = weights.product(inside.to(torch.int8), code) * (high - low) + low * row
        found: Tensor = modules[-1](sums * scale)
        return found

    return compute


def zeroed(task: Task, share: float, run: Run) -> Network:
    """The naive sparse baseline: a share of each layer's Gaussian weights, drawn at random, is zero."""
    network = cast(RandomFeatures, task.reference())
    kept = []
    for number, layer in enumerate(network.layers):
        values = cast(Tensor, layer.weight)
        seed = int(torch.randint(2**62, (), generator=run.generator("mask", task.network, str(share), number)))
        mask = weights.ternary(values.numel(), round((1 - share) * values.numel()), 0, seed)
        values.data = (values * torch.from_numpy(mask).view_as(values)).half().float()
        kept.append(values.numpy())
    part = sparse.part(targets(task), kept, "weights")
    return Network({"zeroed": share}, part, {}, network.features)


def quantised(task: Task) -> Network:
    """The naive quantised baseline: 1[x < −1] + 1[x > 1], centred, in the first two layers; Gaussian weights stay."""
    network = cast(RandomFeatures, task.reference())
    sides, tau = widths(task)[1:], 1.0
    edits = {}
    for number, width in enumerate(sides):
        moments = NAIVE.moments(tau) if number < QUANTISED else relu(tau)
        naive = activations.steps_spec(NAIVE, moments.z, width)
        edits[f"activations.{number}"] = naive if number < QUANTISED else activations.relu_spec(moments.z, width)
        tau = moments.tau
    for path, edit in edits.items():
        network.set_submodule(path, module_of(edit.kind).build(edit.arguments, ()))
    for layer in network.layers:
        layer.weight.data = cast(Tensor, layer.weight).half().float()
    values = [cast(Tensor, layer.weight).numpy() for layer in network.layers]
    return Network(
        {"activation": "naive"}, raw.part(targets(task), values, "weights", "float16"), edits, network.features
    )


def bits(eps: float) -> float:
    """The entropy of a ternary weight in bits."""
    shares = [eps, (1 - eps) / 2, (1 - eps) / 2]
    return -sum(share * math.log2(share) for share in shares if share)
