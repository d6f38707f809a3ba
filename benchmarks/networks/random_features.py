"""Random features: fully connected layers that nobody trains, and a linear read-out (the model of Gu et al., NeurIPS 2022).

An input x has about unit length. A layer is σ(W x) / √d with centred σ, where W (d, inputs) is meant to have independent
entries of mean 0 and variance 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class CentredReLU(nn.Module):
    """(max(x, 0) − z) / √d for inputs (N, d), with the constant z = `centre` and d = `width`."""

    def __init__(self, centre: float, width: int) -> None:
        super().__init__()
        self.centre, self.scale = centre, width**-0.5

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = (F.relu(x) - self.centre) * self.scale
        return found


class RandomFeatures(nn.Module):
    """Input (N, …) with widths[0] values per item, output (N, widths[-1]).

    Weights are `layers.0.weight` … and, the only one that is trained, `readout.weight`. z = τ/√(2π) makes the mean of an
    activation 0 for inputs of N(0, τ²). τ is 1 for the first layer and falls by the factor √(1/2 − 1/(2π)) with each.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths[:-1]))
        taus = [(0.5 - 0.5 / math.pi) ** (0.5 * number) for number in range(len(pairs))]
        self.layers = nn.ModuleList(nn.Linear(*pair, bias=False).requires_grad_(False) for pair in pairs)
        self.activations = nn.ModuleList(
            CentredReLU(tau / math.sqrt(2 * math.pi), width) for tau, (_, width) in zip(taus, pairs, strict=True)
        )
        self.readout = nn.Linear(widths[-2], widths[-1], bias=False)

    def features(self, x: Tensor) -> Tensor:
        """What the read-out sees: (N, widths[-2])."""
        x = x.flatten(1)
        for layer, activation in zip(self.layers, self.activations, strict=True):
            x = activation(layer(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.readout(self.features(x))
        return found


def random_features(widths: Sequence[int]) -> RandomFeatures:
    """`widths` are those of the input, of each random layer, and of the output."""
    whole = isinstance(widths, list | tuple) and all(isinstance(w, int) and not isinstance(w, bool) for w in widths)
    if not whole or not 3 <= len(widths) <= 16 or not all(1 <= width <= 2**15 for width in widths):
        raise ValueError("widths has to be a list of 3 to 16 whole numbers between 1 and 32768")
    return RandomFeatures(widths)
