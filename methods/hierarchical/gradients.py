"""Gradient matrices, and the number of filters that a layer needs.

M = D·A has a row for each channel: the gradients of the weights that read it, sample after sample, times the norm of those
weights. Channels that are equal, linearly dependent, dead or unread reduce M's rank; gradients of the weights that
write a channel show only the last two. Only Gram matrices K = M·Mᵀ are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf
from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.seeds import generator
from methods.families.structured import Group
from methods.families.structured.shortcuts import is_shortcut
from methods.interface import Run, Task

Rank: TypeAlias = Literal["energy", "relative", "entropy"]
Order: TypeAlias = Literal["surgeon", "cholesky"]


def readers(network: nn.Module, group: Group) -> Iterator[tuple[str, Tensor]]:
    """(path of a layer that reads the group, its weight's entries by channel (size, per channel))."""
    for member in group.side("in"):
        if not is_shortcut(network.get_submodule(member.path)):
            yield member.path, member.entries[member.channels.argsort(stable=True)].view(group.size, -1)


def rows(weight: Tensor, entries: Tensor) -> Tensor:
    """The part of a weight (O, I, …) or gradient for each channel: (size, rest)."""
    return weight.transpose(0, 1).flatten(1)[entries].flatten(1)


def micro_batches(task: Task, run: Run, batches: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Prepared training images and labels, the same in every run."""
    split = task.calibration(min(batches * size, len(task.train)))
    for start in range(0, len(split), size):
        chosen = slice(start, start + size)
        yield task.prepare(split.inputs[chosen].to(run.device)), split.targets[chosen].to(run.device)


def grams(
    network: nn.Module,
    groups: Sequence[Group],
    task: Task,
    run: Run,
    batches: int,
    size: int,
    targets: Literal["drawn", "labels"],
) -> dict[str, Tensor]:
    """K (size, size) in fp64 by the name of each group, summed over micro-batches, in eval mode on the run's device.

    With "drawn" targets, labels are drawn from the network's softmax: with true labels, the gradient of a trained network
    is almost zero. No label is used then. Raises MethodError for gradients that are not finite or all zero.
    """
    network = network.to(run.device).eval()
    layers = [(group, path, entries) for group in groups for path, entries in readers(network, group)]
    weights = [network.get_submodule(path).get_parameter("weight") for _, path, _ in layers]
    strengths = [
        rows(w.detach(), entries).double().norm(dim=1) for w, (_, _, entries) in zip(weights, layers, strict=True)
    ]
    found = {group.name: torch.zeros(group.size, group.size, dtype=torch.float64) for group in groups}
    draws = generator("drawn targets")
    for images, labels in micro_batches(task, run, batches, size):
        outputs = network(images.to(weights[0].dtype))
        if not torch.isfinite(outputs).all():
            msg = "the network's outputs are not finite: its weights or images hold NaN or infinite values"
            raise MethodError(msg)
        if targets == "drawn":
            labels = torch.multinomial(outputs.detach().softmax(1).cpu(), 1, generator=draws)[:, 0].to(run.device)
        gradients = torch.autograd.grad(task.loss(outputs, labels), weights)
        for (group, _, entries), gradient, strength in zip(layers, gradients, strengths, strict=True):
            matrix = rows(gradient, entries).double() * strength[:, None]
            found[group.name] += (matrix @ matrix.T).cpu()
    network.to("cpu")
    for name, gram in found.items():
        if not torch.isfinite(gram).all():
            msg = f"the gradients at {name} are not finite: the network or its images hold NaN or infinite values"
            raise MethodError(msg)
        if float(gram.diagonal().max()) <= torch.finfo(torch.float32).tiny:
            msg = f"the gradient matrix of {name} is zero: the loss does not depend on the output of this layer"
            raise MethodError(msg)
    return found


def numerical_rank(gram: Tensor, kind: Rank = "energy", threshold: float = 0.01) -> int:
    """The number of effective channels of a Gram matrix (C, C), at least 1.

    "energy": the fewest leading eigenvalues with all but `threshold` of their sum; "relative": singular values above
    `threshold` of the largest; "entropy": exp of the entropy of the normalised singular values, rounded up.
    """
    squares = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0)
    if kind == "energy":
        return 1 + int((squares.cumsum(0) < (1 - threshold) * squares.sum()).sum())
    values = squares.sqrt()
    if kind == "relative":
        return int((values > threshold * values[0]).sum())
    shares = values / values.sum()
    entropy = -float((shares[shares > 0] * shares[shares > 0].log()).sum())
    return min(len(gram), math.ceil(round(math.exp(entropy), 9)))


def cheapest(gram: Tensor, kept: Tensor, count: int, order: Order = "surgeon") -> tuple[list[int], float]:
    """The `count` channels of `kept` (mask) whose rows of M are nearest to the others' span, and the sum of squared distances.

    "surgeon": one after the other, the channel nearest to the span of the rest; "cholesky": those left after a pivoted
    Cholesky factorisation has chosen the others, each the farthest from the span so far.
    """
    left = kept.nonzero()[:, 0]
    own = gram[left][:, left]
    places, damage = (_surgeon if order == "surgeon" else _cholesky)(own, count)
    return [int(left[place]) for place in places], damage


def _surgeon(own: Tensor, count: int) -> tuple[list[int], float]:
    """By 1/(K + λI)⁻¹_cc, the squared distance of a row from the span of the rest (optimal brain surgeon).

    The inverse is down-dated after each: otherwise two equal rows would both be removed.
    """
    ridge = 1e-8 * float(own.trace()) / len(own)
    inverse = torch.linalg.inv(
        own + max(ridge, torch.finfo(torch.float64).tiny) * torch.eye(len(own), dtype=torch.float64)
    )
    chosen: list[int] = []
    damage = 0.0
    alive = torch.ones(len(own), dtype=torch.bool)
    for _ in range(count):
        distances = torch.where(alive, 1 / inverse.diagonal(), math.inf)
        place = int(distances.argmin())
        chosen.append(place)
        damage += float(distances[place])
        inverse = inverse - torch.outer(inverse[:, place], inverse[place]) / inverse[place, place]
        alive[place] = False
    return chosen, damage


def _cholesky(own: Tensor, count: int) -> tuple[list[int], float]:
    """The last rows in dpstrf's order (LAPACK), and their squared distance from the pivots' span."""
    factor, order, rank, _ = dpstrf(own.numpy(), lower=0)
    pivots = len(own) - count
    spanned = float(np.square(np.triu(factor)[: min(pivots, rank)]).sum())
    return [int(place) - 1 for place in order[pivots:]], max(0.0, float(own.trace()) - spanned)


def redundancy(ranks: Mapping[str, int], groups: Sequence[Group]) -> float:
    """The share of filters that exceed the ranks of their groups."""
    return 1 - sum(ranks.values()) / sum(group.size for group in groups)
