"""The removable units of a convolution: input channels, and components of the singular value decomposition of its matrix.

The matrix of a kernel (N, C, k, k) is W (N, C·k²). The information loss of W' is I(W') = Σ (g ∘ (W' − W))², with the mean
gradient g of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Convolution:
    """`weight` (N, C·k²) and `squares` g² (N, C·k²) in fp64, number of input channels, and output places of one image."""

    weight: Tensor
    squares: Tensor
    channels: int
    places: int

    @property
    def outputs(self) -> int:
        return len(self.weight)

    @property
    def area(self) -> int:
        return self.weight.shape[1] // self.channels

    @property
    def rank(self) -> int:
        return min(self.weight.shape)

    def macs(self, channels: int, rank: int | None) -> int:
        """Multiply-accumulates with so many channels, as one convolution (None) or as a pair of this rank."""
        inputs = channels * self.area
        return self.places * (inputs * self.outputs if rank is None else rank * (inputs + self.outputs))

    def saved(self, channels: int, rank: int) -> tuple[int, int]:
        """Multiply-accumulates that are saved with so many channels and components: in all, and by the channels alone."""
        dense = self.macs(self.channels, None)
        alone = dense - self.macs(channels, None)
        return (alone if rank == self.rank else dense - self.macs(channels, rank)), alone


def components(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """a (N, R) and b (K, R) with matrix (N, K) = a bᵀ, R = min(N, K): its components, those of large singular values first.

    By the eigenvectors of the smaller Gram matrix; nothing is divided by a singular value.
    """
    tall = len(matrix) > matrix.shape[1]
    vectors = torch.linalg.eigh(matrix.T @ matrix if tall else matrix @ matrix.T)[1].flip(1)
    return (matrix @ vectors, vectors) if tall else (vectors, matrix.T @ vectors)


@dataclass(eq=False)
class State:
    """A convolution without some units: its matrix over the kept channels (N, C'·k²), and how many components are left.

    Components are decomposed again when they are asked for after `patience` channels were removed; until then, those of
    before lose the rows of removed channels.
    """

    of: Convolution
    patience: int = 1
    kept: Tensor = field(init=False)
    matrix: Tensor = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.kept = torch.ones(self.of.channels, dtype=torch.bool)
        self.matrix = self.of.weight.clone()
        self.left = self.of.rank
        self._known: tuple[Tensor, Tensor] | None = None
        self._stale = 0

    @property
    def columns(self) -> Tensor:
        """Mask (C·k²,) of the columns of kept channels."""
        return self.kept.repeat_interleave(self.of.area)

    def loss(self) -> float:
        """I of this state."""
        columns = self.columns
        off = self.of.squares[:, ~columns] * self.of.weight[:, ~columns].square()
        on = self.of.squares[:, columns] * (self.matrix - self.of.weight[:, columns]).square()
        return float(off.sum() + on.sum())

    def components(self, fresh: bool = False) -> tuple[Tensor, Tensor]:
        """a (N, left) and b (C'·k², left); zeros if the matrix has fewer components than are left."""
        if self._known is None or self._stale >= (1 if fresh else self.patience):
            a, b = (side[:, : self.left] for side in components(self.matrix))
            missing = self.left - a.shape[1]
            self._known = torch.nn.functional.pad(a, (0, missing)), torch.nn.functional.pad(b, (0, missing))
            self._stale = 0
        return self._known

    def remove_channel(self, channel: int) -> None:
        place = int(self.kept[:channel].sum()) * self.of.area
        others = torch.ones(self.matrix.shape[1], dtype=torch.bool)
        others[place : place + self.of.area] = False
        self.matrix = self.matrix[:, others]
        self.kept[channel] = False
        if self._known is not None:
            self._known = self._known[0], self._known[1][others]
            self._stale += 1

    def remove_component(self, place: int) -> None:
        """Remove the component at `place` of `components`; the others stay components of what is left."""
        a, b = self.components()
        self.matrix = self.matrix - torch.outer(a[:, place], b[:, place])
        others = torch.arange(self.left) != place
        self._known = a[:, others], b[:, others]
        self.left -= 1
