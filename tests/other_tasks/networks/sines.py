"""A network of sines that maps the coordinates of pixels to colours: (N, P, 2) to (N, P, 3)."""

import torch
from torch import Tensor, nn


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


def sines(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, features), Sine(), nn.Linear(features, 3))
