"""The score of removing each unit: the loss that follows, and γ times the expected loss after one more removal.

All candidates are scored in closed form. With G = g², D = W_t − W and the change P of a candidate, W_i = W_t − P:
B = Σ G (D − P)², and the mean of I over all next removals is
E = B + 4/(m−1) Σ G (W_i − W) ∘ (−W_i) + 1/(m−1) [Σ G W_i² + Σ_r Σ G (a_r b_rᵀ)²] for the components a_r b_rᵀ of W_i.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from methods.cc.units import State

MOST_VALUES = 2**23  # of matrices that are decomposed at a time


class Scores(NamedTuple):
    """B and E of each candidate: kept channels (C',) in order, and components (left,) in order."""

    channels: tuple[Tensor, Tensor]
    components: tuple[Tensor, Tensor]


def scores(state: State, exact: bool = True) -> Scores:
    """B and E of each candidate. Without `exact`, the components of W_t stand for those of W_t without a channel."""
    conv, columns = state.of, state.columns
    squares, weight, matrix = conv.squares[:, columns], conv.weight[:, columns], state.matrix
    lost = (conv.squares[:, ~columns] * conv.weight[:, ~columns].square()).sum()  # of channels that are gone
    apart = matrix - weight
    loss, cross, size = squares * apart.square(), squares * apart * matrix, squares * matrix.square()
    a, b = state.components(fresh=True)
    each = (squares.T @ a.square()) * b.square()  # (C'·k², left); a column sums to Σ G P² of a component

    def by_channel(values: Tensor) -> Tensor:
        return values.reshape(len(values), -1, conv.area).sum((0, 2))

    def product(values: Tensor) -> Tensor:
        """Σ G ∘ X ∘ P of each component, for G ∘ X."""
        return ((values.T @ a) * b).sum(0)

    others = max(int(state.kept.sum()) + state.left - 1, 1)  # units that remain after a candidate
    now = lost + loss.sum()
    without = now - by_channel(loss) + by_channel(squares * weight.square())
    spread = _without_channels(state, squares) if exact else each.sum() - by_channel(each.sum(1)[None])
    shrunk = cross.sum() - by_channel(cross)
    expected = without + (-4 * shrunk + size.sum() - by_channel(size) + spread) / others
    power = each.sum(0)
    thinner = now - 2 * product(squares * apart) + power
    crossed = cross.sum() - product(squares * (apart + matrix)) + power
    sized = size.sum() - 2 * product(squares * matrix) + power
    after = thinner + (-4 * crossed + sized + each.sum() - power) / others
    return Scores((without, expected), (thinner, after))


def _without_channels(state: State, squares: Tensor) -> Tensor:
    """Σ_r Σ G (a_r b_rᵀ)² over the components of the matrix without each kept channel (C',), in batches."""
    matrix, area = state.matrix, state.of.area
    tall = len(matrix) > matrix.shape[1]
    count = matrix.shape[1] // area
    found = []
    for chunk in torch.split(torch.arange(count), max(1, MOST_VALUES // matrix.numel())):
        cut = matrix.repeat(len(chunk), 1, 1)
        cut.view(len(chunk), len(matrix), count, area)[torch.arange(len(chunk)), :, chunk] = 0
        vectors = torch.linalg.eigh(cut.mT @ cut if tall else cut @ cut.mT)[1]
        given = (squares if tall else squares.T) @ vectors.square()
        found.append((given * ((cut if tall else cut.mT) @ vectors).square()).sum((1, 2)))
    return torch.cat(found)
