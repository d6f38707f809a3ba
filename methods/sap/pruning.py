"""The PQ Index of a vector, and how many of its smallest entries an iterative pruner may remove (Diao et al., ICLR 2023).

Vectors are rows of (R, d), in fp64, with a mask of the entries that are kept so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Scope: TypeAlias = Literal["neuron", "layer", "global"]
MOST = 0.9  # β: at most this share of the kept entries is removed at once


def pq_index(rows: Tensor, kept: Tensor, p: float, q: float) -> Tensor:
    """I_{p,q} = 1 − d^(1/q − 1/p) · ‖w‖_p / ‖w‖_q of the d kept entries of each row (Definition 1).

    `rows` (R, D) and `kept` (R, D) -> (R,): from 0 for equal magnitudes to 1 − d^(1/q − 1/p) for a single non-zero one. 0 for a
    row without a non-zero entry.
    """
    largest = torch.where(kept, rows.abs(), 0).amax(1, keepdim=True)
    scaled = torch.where(kept, rows.abs(), 0) / torch.where(largest > 0, largest, 1)
    count = kept.sum(1).clamp_min(1).to(rows.dtype)
    norms = [scaled.pow(order).sum(1).pow(1 / order) for order in (p, q)]
    ratio = norms[0] / torch.where(norms[1] > 0, norms[1], 1)
    return torch.where(largest[:, 0] > 0, (1 - count ** (1 / q - 1 / p) * ratio).clamp_min(0), 0)


@dataclass(frozen=True)
class Adaptive:
    """Sparsity-informed adaptive pruning: the bound on the PQ Index says how many entries are needed."""

    p: float
    q: float
    eta: float
    gamma: float

    def removed(self, rows: Tensor, kept: Tensor) -> Tensor:
        """c = ⌊d · min(γ (1 − r/d), β)⌋ of each row, (R,), with r = ⌈d (1 + η)^(−q/(q−p)) (1 − I)^(pq/(q−p))⌉."""
        p, q, count = self.p, self.q, kept.sum(1).to(rows.dtype)
        index = pq_index(rows, kept, p, q)
        bound = count * (1 + self.eta) ** (-q / (q - p)) * (1 - index) ** (p * q / (q - p))
        needed = (bound * (1 - 1e-12)).ceil()
        share = (self.gamma * (1 - needed / count.clamp_min(1))).clamp(0, MOST)
        return (count * share + 1e-9).floor().long()


@dataclass(frozen=True)
class Fixed:
    """The same share of the kept entries each time (the lottery ticket hypothesis; Frankle and Carbin, ICLR 2019)."""

    share: float

    def removed(self, rows: Tensor, kept: Tensor) -> Tensor:
        """⌊d · share⌋ of each row, (R,)."""
        return (kept.sum(1) * self.share + 1e-9).floor().long()


def prune(weights: dict[str, Tensor], masks: dict[str, Tensor], rule: Adaptive | Fixed, scope: Scope) -> None:
    """Remove the smallest kept magnitudes, in place in `masks`: as many as `rule` says for each vector of the scope.

    A vector has the weights of one output unit, of one layer or of all layers. Entries equal to the smallest one that stays are
    kept, too.
    """
    for names in [[name] for name in weights] if scope != "global" else [[*weights]]:
        rows, kept = vectors(weights, masks, names, scope)
        magnitudes = torch.where(kept, rows.abs(), torch.inf)
        pivots = magnitudes.sort(dim=1).values.gather(1, rule.removed(rows, kept)[:, None])
        left = kept & (magnitudes >= pivots)
        for name, values in zip(names, left.flatten().split([masks[n].numel() for n in names]), strict=True):
            masks[name].copy_(values.view_as(masks[name]))


def vectors(
    weights: dict[str, Tensor], masks: dict[str, Tensor], names: list[str], scope: Scope
) -> tuple[Tensor, Tensor]:
    """The weights (R, D) in fp64 and their masks: a row for each output unit, or one for all weights."""
    both = [torch.cat([found[name].detach().flatten() for name in names]) for found in (weights, masks)]
    units = len(weights[names[0]]) if scope == "neuron" else 1
    return both[0].double().view(units, -1), both[1].view(units, -1)
