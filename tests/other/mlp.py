"""One hidden layer: input (N, …, inputs), output (N, …, 1)."""

from __future__ import annotations

from torch import nn


def mlp(inputs: int, width: int) -> nn.Sequential:
    if not 1 <= inputs <= 100 or not 1 <= width <= 1000:
        raise ValueError("inputs have to be 1 to 100, width 1 to 1000")
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, 1))
