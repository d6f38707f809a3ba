"""Sparsity-informed adaptive pruning: the PQ Index of trained weights says how many of them the next round removes.

Diao, Wang, Zhang, Yang, Ding, Tarokh (ICLR 2023). A network is trained from random weights and pruned by magnitude; then its
remaining weights start again from the same random values, round by round. The PQ Index measures how unequal the magnitudes of
a vector are; by a bound on it, each vector loses as many entries as it can spare. With a fixed share instead, the loop is that
of the lottery ticket hypothesis, or one-shot pruning by the magnitudes of the first training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.training import SGD, Recipe, fit
from methods.families import sparse_grid, storage
from methods.families.budget import epochs_per_point, learning_rate
from methods.families.grid import OnGrid
from methods.families.limits import Count, NotNegative, Positive, Share, ShareOrAll
from methods.interface import CLASSIFICATION, REGRESSION, Budget, Card, Compressed, Json, Run, Task
from methods.sap.pruning import Adaptive, Fixed, Scope, pq_index, prune, vectors

CARD = Card(
    key="sap",
    title="Pruning Deep Neural Networks from a Sparsity Perspective",
    authors=("Enmao Diao", "Ganghua Wang", "Jiawei Zhang", "Yuhong Yang", "Jie Ding", "Vahid Tarokh"),
    venue="ICLR",
    year=2023,
    families=("unstructured pruning",),
    fidelity="reconstruction",
    budgets=("short", "paper"),
    arxiv="2302.05601",
    code="https://github.com/diaoenmao/Pruning-Deep-Neural-Networks-from-a-Sparsity-Perspective",
    note="Index, bound, loop and settings are those of the official code. The text of the paper was not available.",
    kinds=(CLASSIFICATION, REGRESSION),
)
BITS = 8  # of stored weights
Rounds: TypeAlias = Annotated[int, Meta(ge=1, le=100)]


@dataclass(frozen=True)
class Config:
    """`mode` "adaptive" is SAP, with the index's `p` < `q`, η, γ and the vectors of `scope`.

    "lottery" and "one_shot" remove the `share` of what is left in each round; "one_shot" always by the magnitudes of the first
    training. One point for the dense network and for each of `rounds`. Each training has the epochs of the budget, or `epochs`
    at the `paper` budget. Kept weights are stored, and trained, on a grid as in `magnitude`.
    """

    mode: Literal["adaptive", "lottery", "one_shot"] = "adaptive"
    scope: Scope = "neuron"
    p: ShareOrAll = 0.5
    q: Positive = 1.0
    eta: NotNegative = 0.0
    gamma: Positive = 1.0
    share: Share = 0.2
    rounds: Rounds = 30
    epochs: Count = 200
    lr: Positive = 0.1
    batch: Count = 250

    def __post_init__(self) -> None:
        if not self.p < self.q or self.q < 1:
            raise ValueError("q has to be at least 1 and larger than p: the PQ Index is defined for 0 < p ≤ 1 ≤ q")

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, self.rounds + 1, self.epochs)

    @property
    def rule(self) -> Adaptive | Fixed:
        """How many weights a round removes."""
        return Adaptive(self.p, self.q, self.eta, self.gamma) if self.mode == "adaptive" else Fixed(self.share)


def unsupported(task: Task, config: Config) -> str | None:
    """None: every network is supported."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """The dense network, then one point for each round; `round` counts them. Its notes are the kept share and the index."""
    storage.check_names(task)
    masks: dict[str, Tensor] = {}
    first: dict[str, Tensor] = {}
    for number, epochs in enumerate(config.operating_points(run.budget)):
        network = initial(task, run)
        names = [f"{path}.weight" for path in storage.layers(network)]
        parameters = dict(network.named_parameters())
        masks = masks or {name: torch.ones_like(parameters[name], dtype=torch.bool) for name in names}
        with torch.no_grad():
            for name, mask in masks.items():
                parameters[name].mul_(mask)
        recipe, rounding = _recipe(epochs, config, run), OnGrid(network, BITS)
        fit(network, task, run, recipe, f"round {number}", masks, rounding)
        exact: dict[str, Tensor] = rounding.state_dict()["exact"]  # before rounding
        trained = {name: exact[name].cpu() for name in names}
        first = first or trained
        parts, known = sparse_grid.parts(network, BITS), notes(trained, masks, config)
        yield Compressed(task.architecture, task.arguments, parts, {"round": number}, notes=known)
        prune(first if config.mode == "one_shot" else trained, masks, config.rule, config.scope)


def _recipe(epochs: float, config: Config, run: Run) -> Recipe:
    return Recipe(epochs, learning_rate(run.budget, config.lr), config.batch, SGD(nesterov=True))


def initial(task: Task, run: Run) -> nn.Module:
    """The task's network with PyTorch's initial weights, in each round the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.generator("init").initial_seed())
        return networks.build(task.architecture, task.arguments)


def notes(weights: dict[str, Tensor], masks: dict[str, Tensor], config: Config) -> dict[str, Json]:
    """The share of weights that are kept, and the PQ Index of all kept weights as one vector."""
    rows, kept = vectors(weights, masks, [*weights], "global")
    index = pq_index(rows, kept, config.p, config.q)
    return {"kept": float(kept.double().mean()), "pq_index": float(index)}
