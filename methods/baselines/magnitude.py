"""Magnitude pruning: the smallest weights become zero, globally or after scaling by layer; kept weights are quantised.

Scores: `global` |w| (Han et al., NeurIPS 2015); `layer_normalised` |w| / ‖w_layer‖₂, the baseline of SuRP's authors;
`lamp` w² / Σ of the squares in the layer that are at least as large (Lee et al., Layer-adaptive Sparsity for the
Magnitude-based Pruning, ICLR 2021). With a training budget, pruning and retraining alternate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw, sparse, uniform
from benchmarks.training import Recipe, fit, reestimate
from methods.interface import Card, Compressed, Run, Task

CARD = Card(
    key="magnitude",
    title="Magnitude pruning (global, layer-normalised, LAMP)",
    authors=("S. Han", "J. Pool", "J. Tran", "W. Dally", "J. Lee", "S. Park", "S. Mo", "S. Ahn", "J. Shin"),
    venue="NeurIPS 2015; ICLR 2021 (LAMP)",
    year=2021,
    families=("unstructured pruning",),
    fidelity="baseline",
    budgets=("post-training", "short", "paper"),
    arxiv="2010.07611",
)


@dataclass(frozen=True)
class Config:
    """`sparsities` are shares of conv and linear weights set to zero: one point each, one-shot without training.

    `rounds` are those of prune-and-retrain; each has an equal share of the budget's epochs, or `epochs` of its own in
    the `paper` budget. Kept weights are stored in `value_bits` bits before entropy coding, all else in fp16.
    """

    score: Literal["global", "layer_normalised", "lamp"] = "global"
    sparsities: tuple[float, ...] = (0.1, 0.36, 0.5904, 0.7379, 0.8322, 0.893, 0.94, 0.98)
    rounds: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98, 0.99)
    value_bits: int = 8
    recalibrate: int = 500
    lr: float = 0.01
    epochs: int = 20


def unsupported(task: Task, config: Config) -> str | None:
    """Any network will do; what is refused is a configuration that can't be followed."""
    for shares in (config.sparsities, config.rounds):
        if not shares or list(shares) != sorted(set(shares)) or not all(0 <= share < 1 for share in shares):
            return "sparsities and rounds have to rise, from 0 to below 1"
    if config.score not in ("global", "layer_normalised", "lamp") or not 2 <= config.value_bits <= 16:
        return "score has to be global, layer_normalised or lamp, and value_bits 2 to 16"
    if min(config.recalibrate, config.epochs - 1) < 0 or not config.lr > 0:
        return "lr has to be above 0, epochs at least 1, and recalibrate not negative"
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """Points from dense to sparse; with a training budget, each is pruned from the retrained one before it."""
    network = task.reference()
    trains = run.budget.name != "post-training"
    share = config.epochs if run.budget.epochs is None else run.budget.epochs / len(config.rounds)
    for sparsity in config.rounds if trains else config.sparsities:
        if not trains:
            network = task.reference()
        masks = prune(network, config.score, sparsity)
        if trains:
            fit(network, task, run, Recipe(share, config.lr), f"sparsity {sparsity}", masks)
        else:
            reestimate(network, task, config.recalibrate)
        yield describe(network, task, config.value_bits, {"sparsity": sparsity})


@torch.no_grad()
def prune(network: nn.Module, score: str, sparsity: float) -> dict[str, Tensor]:
    """Zero the `sparsity` share of conv and linear weights with the lowest scores; returns what is kept, by name."""
    weights = {
        f"{path}.weight": m.weight for path, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    }
    scores = {name: _score(weight, score) for name, weight in weights.items()}
    ranked = torch.cat([s.flatten() for s in scores.values()]).sort().values
    threshold = ranked[min(round(sparsity * len(ranked)), len(ranked) - 1)]
    masks = {name: s >= threshold for name, s in scores.items()}
    for name, mask in masks.items():
        weights[name].mul_(mask)
    return masks


def _score(weight: Tensor, score: str) -> Tensor:
    if score == "global":
        return weight.abs()
    if score == "layer_normalised":
        return weight.abs() / weight.norm().clamp_min(torch.finfo(weight.dtype).tiny)
    squares, order = weight.flatten().double().square().sort()
    at_least = squares.flip(0).cumsum(0).flip(0).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.empty_like(squares).scatter_(0, order, squares / at_least).view_as(weight)


@torch.no_grad()
def describe(network: nn.Module, task: Task, value_bits: int, point: dict[str, float]) -> Compressed:
    """Sparse weights on a grid of 2^value_bits − 1 levels per tensor; biases and BatchNorm in fp16."""
    tensors = {name: tensor.detach().numpy() for name, tensor in blueprint.state(network).items()}
    weights = [name for name, tensor in tensors.items() if tensor.ndim > 1]
    others = [name for name, tensor in tensors.items() if tensor.ndim < 2]
    levels = 2 ** (value_bits - 1) - 1
    steps = [np.float32(max(np.abs(tensors[name]).max(), np.finfo(np.float32).tiny) / levels) for name in weights]
    codes = [uniform.quantise(tensors[name], step)[0] for name, step in zip(weights, steps, strict=True)]
    parts = (
        sparse.part(weights, codes, "weights", steps=[float(s) for s in steps]),
        raw.part(others, [tensors[name] for name in others], "norm_bias", "float16"),
    )
    return Compressed(task.architecture, task.arguments, parts, point)
