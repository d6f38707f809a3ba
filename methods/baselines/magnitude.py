"""Magnitude pruning: the weights with the smallest scores are set to zero, and the others are quantised.

Scores: `global` |w| (Han et al., NeurIPS 2015); `layer_normalised` |w| / ‖w_layer‖₂, the baseline of SuRP's authors;
`lamp` w² / Σ of the squares in the layer that are at least as large (Lee et al., Layer-adaptive Sparsity for the
Magnitude-based Pruning, ICLR 2021). With a training budget, pruning and retraining alternate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmarks.training import Recipe, control_variate, fit
from methods.families import sparse_grid, storage
from methods.families.budget import epochs_per_point, learning_rate, trains
from methods.families.grid import OnGrid
from methods.families.limits import Images, check_order
from methods.interface import CLASSIFICATION, IMAGE_CODING, REGRESSION, Budget, Card, Compressed, Run, Task

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
    kinds=(CLASSIFICATION, REGRESSION, IMAGE_CODING),
)


Score: TypeAlias = Literal["global", "layer_normalised", "lamp"]
Sparsity: TypeAlias = Annotated[float, Meta(ge=0, lt=1)]
BITS = 8
LEARNING_RATE = 0.01
EPOCHS = 20


@dataclass(frozen=True)
class Config:
    """`sparsities` are shares of conv and linear weights set to zero, one point each, pruned in one shot without training.

    `rounds` are the sparsities of pruning and retraining. Each round gets the epochs of the budget, or EPOCHS at the
    `paper` budget. Kept weights are quantised to BITS bits, also in the forward passes of training, and entropy coded; other
    values are fp16. `recalibrate` is the number of unlabelled images by which BatchNorm is corrected without training.
    """

    score: Score = "global"
    sparsities: tuple[Sparsity, ...] = (0.1, 0.36, 0.5904, 0.7379, 0.8322, 0.893, 0.94, 0.98)
    rounds: tuple[Sparsity, ...] = (0.8, 0.9, 0.95, 0.98, 0.99)
    recalibrate: Images = 500

    def __post_init__(self) -> None:
        check_order("sparsities", self.sparsities)
        check_order("rounds", self.rounds)

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.rounds if trains(budget) else self.sparsities), EPOCHS)


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """Points from dense to sparse; with training, each is pruned from the retrained network of the point before."""
    storage.check_names(task)
    network = task.reference()
    training = trains(run.budget)
    known = control_variate.control(network, task, 0 if training else config.recalibrate)
    sparsities = config.rounds if training else config.sparsities
    for sparsity, epochs in zip(sparsities, config.operating_points(run.budget), strict=True):
        if not training:
            network = task.reference()
        masks = prune(network, config.score, sparsity)
        if training:
            recipe = Recipe(epochs, learning_rate(run.budget, LEARNING_RATE))
            fit(network, task, run, recipe, f"sparsity {sparsity}", masks, OnGrid(network, BITS))
        else:
            control_variate.correct(network, task, config.recalibrate, known)
        parts = sparse_grid.parts(network, BITS)
        yield Compressed(task.architecture, task.arguments, parts, {"sparsity": sparsity})


@torch.no_grad()
def prune(network: nn.Module, score: Score, sparsity: float) -> dict[str, Tensor]:
    """Zero the `sparsity` share of conv and linear weights with the lowest scores; returns masks of kept weights, by name."""
    weights = {f"{path}.weight": layer.weight for path, layer in storage.layers(network).items()}
    scores = {name: _score(weight, score) for name, weight in weights.items()}
    # Equal scores stay in the order of the weights.
    order = torch.cat([s.flatten() for s in scores.values()]).argsort(stable=True)
    kept = torch.ones(len(order), dtype=torch.bool)
    kept[order[: min(round(sparsity * len(order)), len(order) - 1)]] = False
    shares = kept.split([s.numel() for s in scores.values()])
    masks = {name: share.view(s.shape) for (name, s), share in zip(scores.items(), shares, strict=True)}
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
