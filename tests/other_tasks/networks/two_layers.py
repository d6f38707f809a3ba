"""A small network of two linear layers: 10 numbers to one."""

from torch import nn


def two_layers(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 1))
