"""Tucker-2 of each layer (Kim et al., ICLR 2016), by tensorly: a 1×1 convolution, a thin k×k one, and a 1×1 one.

Ranks are the same share τ of every layer's inputs and outputs. τ is chosen so that all layers together have as many values
as truncated SVDs at rate ρ (the comparison of Chen et al. 2023).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.bitstream.modules import conv2d, sequential
from methods.families import lowrank
from methods.families.lowrank import Settings, base_rank, curve, groups
from methods.families.lowrank.unfolding import RankError, check
from methods.families.slim import Slim
from methods.interface import Card, Compressed, ModuleSpec, Run, Task

CARD = Card(
    key="tucker",
    title="Compression of deep convolutional neural networks for fast and low power mobile applications: Tucker-2",
    authors=("Yong-Deok Kim", "Eunhyeok Park", "Sungjoo Yoo", "Taelim Choi", "Lu Yang", "Dongjun Shin"),
    venue="ICLR",
    year=2016,
    families=("low-rank factorisation",),
    fidelity="baseline",
    budgets=("post-training", "short", "paper"),
    arxiv="1511.06530",
    note="Ranks follow the truncated SVD's size instead of variational Bayesian matrix factorisation.",
)


@dataclass(frozen=True)
class Config(Settings):
    """At rate ρ, the size is about that of SVDs of rank ⌊ρ·O⌋."""


def unsupported(task: Task, config: Config) -> str | None:
    """The same layers as for `jsvd`, so that sizes can be compared."""
    if importlib.util.find_spec("tensorly") is None:
        return "tensorly is not installed: pip install 'ratebench[peers]'"
    return lowrank.unsupported(task)


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    return curve(task, config, run, decompose)


def decompose(network: nn.Module, rate: float) -> Slim:
    """Every convolution of the groups as a chain of three."""
    layers = {path: layer for group in groups(network) for path, layer in group.layers.items()}
    share = equal_share(list(layers.values()), rate)
    edits, tensors = {}, {}
    for path, layer in layers.items():
        ranks = chain_ranks(layer, share)
        edits[path] = chain(layer, ranks)
        names = (f"{path}.{place}.weight" for place in range(3))
        tensors |= dict(zip(names, _tucker(layer.weight.detach(), ranks, path), strict=True))
    return Slim(edits, {}, tensors)


def equal_share(layers: Sequence[nn.Conv2d], rate: float) -> float:
    """τ with Σ k²IO τ² + Σ (I² + O²) τ = Σ numbers of the truncated SVDs at rate ρ."""
    square = sum(layer.weight.numel() for layer in layers)
    linear = sum(layer.in_channels**2 + layer.out_channels**2 for layer in layers)
    wanted = sum(
        base_rank(m, rate) * (m.kernel_size[0] * m.in_channels + m.kernel_size[1] * m.out_channels) for m in layers
    )
    return (math.sqrt(linear**2 + 4 * square * wanted) - linear) / (2 * square)


def chain_ranks(layer: nn.Conv2d, share: float) -> tuple[int, int]:
    """(outputs, inputs) of the thin k×k convolution."""
    return max(1, math.floor(share * layer.out_channels)), max(1, math.floor(share * layer.in_channels))


def chain(layer: nn.Conv2d, ranks: tuple[int, int]) -> ModuleSpec:
    """1×1 (I → r), k×k (r → r') with the layer's stride and padding, 1×1 (r' → O)."""
    outputs, inputs = ranks
    return sequential.spec(
        conv2d.spec(layer.in_channels, inputs, bias=False, kernel_size=1),
        conv2d.spec(
            inputs,
            outputs,
            bias=False,
            kernel_size=layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
        ),
        conv2d.spec(outputs, layer.out_channels, bias=False, kernel_size=1),
    )


def _tucker(weight: Tensor, ranks: tuple[int, int], path: str) -> tuple[Tensor, Tensor, Tensor]:
    """The three kernels, by higher-order orthogonal iteration on the output and input modes."""
    from tensorly.decomposition import partial_tucker

    check(weight, path)
    if not all(rank <= size for rank, size in zip(ranks, weight.shape, strict=False)):
        msg = (
            f"ranks {ranks} are impossible for {path} with {tuple(weight.shape[:2])} outputs and inputs: lower the rate"
        )
        raise RankError(msg)
    (core, (last, first)), _ = partial_tucker(weight.double().numpy(), rank=list(ranks), modes=[0, 1], init="svd")
    kernels = first.T[:, :, None, None], core, last[:, :, None, None]
    return tuple(torch.from_numpy(k.copy()).float() for k in kernels)
