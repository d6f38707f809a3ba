"""Adaptive backward pruning: each neuron keeps as many weights as its coefficients need (Yang, Wang, Ding, Yang 2022).

A neuron is a linear combination of the previous layer's outputs. If its weights have a small ℓ_q norm relative to their ℓ₁
norm, few terms approximate it. From the last layer back, each neuron that a later one still reads keeps its largest weights
(ABP-M), or is fitted again to its inputs by the Lasso (ABP-L). Neurons that nothing reads are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import sparse
from methods.families import storage
from methods.families.limits import Count, NotNegative, Positive, Share, check_order
from methods.interface import CLASSIFICATION, REGRESSION, Budget, Card, Compressed, Run, Task
from methods.sparse_linear import neurons
from methods.sparse_linear.backward import Layer, Rule, observed, perceptron, pruned

CARD = Card(
    key="sparse_linear",
    title="A Theoretical Understanding of Neural Network Compression from Sparse Linear Approximation",
    authors=("Wenjing Yang", "Ganghua Wang", "Jie Ding", "Yuhong Yang"),
    venue="arXiv",
    year=2022,
    families=("unstructured pruning",),
    fidelity="reconstruction",
    arxiv="2206.05604",
    note=(
        "The body of the paper was not available. The rules follow from its abstract, the names and settings in its Table 2, "
        "the theory of sparse approximation (Gao, Ing, Yang 2013) and early code of some of the authors."
    ),
    kinds=(CLASSIFICATION, REGRESSION),
)
Bound: TypeAlias = tuple[NotNegative, Share]


@dataclass(frozen=True)
class Config:
    """`rule` "bound" is ABP-M, "lasso" ABP-L, and "magnitude" the paper's Mag: the same share is removed from each neuron.

    One point for each of `bounds` (η, q), `penalties` λ or `shares`. The Lasso sees the first `items` unlabelled training
    items, or all if there are fewer. Kept weights are fp16.
    """

    rule: Literal["bound", "lasso", "magnitude"] = "lasso"
    bounds: tuple[Bound, ...] = ((0.0, 0.3), (0.0, 0.5), (0.0, 0.7), (0.1, 0.5), (0.2, 0.5), (0.3, 0.5))
    penalties: tuple[Positive, ...] = (1e-5, 1e-4, 1e-3)
    shares: tuple[Share, ...] = (0.3, 0.5, 0.7)
    items: Count = 10_000

    def __post_init__(self) -> None:
        check_order("penalties", self.penalties)
        check_order("shares", self.shares)
        if not self.bounds or len(set(self.bounds)) < len(self.bounds):
            raise ValueError("bounds has to have at least one pair of eta and q, and each only once")

    def points(self) -> list[dict[str, float]]:
        """The labels of the operating points."""
        if self.rule == "bound":
            return [{"eta": eta, "q": q} for eta, q in self.bounds]
        name, values = ("lambda", self.penalties) if self.rule == "lasso" else ("share", self.shares)
        return [{name: value} for value in values]

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.points())


def unsupported(task: Task, config: Config) -> str | None:
    """A network that is no multilayer perceptron with ReLU is refused."""
    if perceptron(blueprint.skeleton(task.architecture, task.arguments, {}, {})) is None:
        return f"needs linear layers with ReLU between them and nothing else: {task.network} has other layers"
    return None


@torch.no_grad()
def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point for each setting of the rule, each from the uncompressed network."""
    storage.check_names(task)
    inputs = task.prepare(task.calibration(min(config.items, len(task.train))).inputs)
    layers = list(observed(perceptron(task.reference()) or [], inputs))
    points = config.points()
    rules = _refitting(layers, config.penalties) if config.rule == "lasso" else map(_keeping, points)
    for point, rule in zip(points, rules, strict=True):
        network = task.reference()
        for one, (weight, bias) in zip(perceptron(network) or [], pruned(layers, rule), strict=True):
            one.weight.copy_(weight), one.bias.copy_(bias)
        tensors = storage.tensors(network)
        part = sparse.part(list(tensors), list(tensors.values()), "weights")
        yield Compressed(task.architecture, task.arguments, (part,), point)


def _keeping(point: Mapping[str, float]) -> Rule:
    """ABP-M or Mag, by the labels of a point."""

    def rule(layer: Layer, read: Tensor) -> tuple[Tensor, Tensor]:
        rows = layer.weight[read]
        if "share" in point:
            mask = neurons.without_smallest(rows, point["share"])
        else:
            mask = neurons.largest(rows, neurons.kept(rows, point["eta"], point["q"]))
        return rows * mask, layer.bias[read]

    return rule


def _refitting(layers: Sequence[Layer], penalties: Sequence[float]) -> Iterator[Rule]:
    """ABP-L for each penalty: the Lasso with an intercept, so that the mean of each neuron's sum stays."""
    paths = {layer: neurons.lasso(layer.gram, layer.weight, penalties) for layer in layers}
    for number in range(len(penalties)):

        def rule(layer: Layer, read: Tensor, number: int = number) -> tuple[Tensor, Tensor]:
            found = paths[layer][number]
            return found[read], (layer.bias + (layer.weight - found) @ layer.mean)[read]

        yield rule
