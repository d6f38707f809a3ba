"""Truncated SVD of each layer separately (Tai et al., ICLR 2016): the baseline of joint decompositions.

A k×k convolution becomes a k×1 and a 1×k one; the first contains the singular values. When training from scratch, Tai et
al. put a BatchNorm between the two; this module puts none there, as in the comparison of Chen et al. 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from methods.families import lowrank
from methods.families.lowrank import Settings, base_rank, curve, groups
from methods.families.lowrank.unfolding import left_kernel, pair, right_kernel, truncated_svd, unfold
from methods.families.slim import Slim
from methods.interface import Card, Compressed, Run, Task

CARD = Card(
    key="svd",
    title="Convolutional neural networks with low-rank regularization: the SVD of each layer",
    authors=("Cheng Tai", "Tong Xiao", "Yi Zhang", "Xiaogang Wang", "Weinan E"),
    venue="ICLR",
    year=2016,
    families=("low-rank factorisation",),
    fidelity="baseline",
    budgets=("post-training", "short", "paper"),
    arxiv="1511.06067",
)


@dataclass(frozen=True)
class Config(Settings):
    """A layer of O outputs keeps ⌊ρ·O⌋ singular values at rate ρ."""


def unsupported(task: Task, config: Config) -> str | None:
    """The same layers as for `jsvd`, so that sizes can be compared."""
    return lowrank.unsupported(task)


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    return curve(task, config, run, decompose)


def decompose(network: nn.Module, rate: float) -> Slim:
    """Each convolution of the groups as a separate pair."""
    edits, tensors = {}, {}
    for path, layer in ((path, layer) for group in groups(network) for path, layer in group.layers.items()):
        rank = base_rank(layer, rate)
        left, singular, right = truncated_svd(unfold(layer.weight.detach()), rank, path)
        edits[path] = pair(layer, rank)
        tensors[f"{path}.0.weight"] = left_kernel(left * singular, layer.kernel_size[0]).float()
        tensors[f"{path}.1.weight"] = right_kernel(right, layer.kernel_size[1]).float()
    return Slim(edits, {}, tensors)
