"""A multilayer perceptron with ReLU: LeNet-300-100 is `widths` 784, 300, 100, 10 (LeCun et al., Proc. IEEE 1998)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Input (N, …) with widths[0] values per item, output (N, widths[-1]); linear layers with biases, ReLU between them."""
    whole = isinstance(widths, list | tuple) and all(isinstance(w, int) and not isinstance(w, bool) for w in widths)
    if not whole or not 2 <= len(widths) <= 16 or not all(1 <= width <= 2**15 for width in widths):
        raise ValueError("widths has to be a list of 2 to 16 whole numbers between 1 and 32768")
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
