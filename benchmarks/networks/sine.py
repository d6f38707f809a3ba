"""A perceptron with sines that draws a picture: coordinates of pixels to colours (Strümpler et al., ECCV 2022, section 3).

The input is encoded by sines and cosines of rising frequency; hidden layers are SIREN's, sin(30 (W x + b)) (Sitzmann et al.,
Implicit Neural Representations with Periodic Activation Functions, NeurIPS 2020).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

OMEGA = 30.0  # inside the sines of hidden layers
SCALE = 1.4  # of neighbouring frequencies of the encoding
HIDDEN = 4  # layers with a sine
BLOCK = 2**15  # pixels that pass at a time, about: their activations take a few megabytes
MOST = 2**13  # pixels of a side


class Encoding(nn.Module):
    """(…, 2) to (…, 2 + 4L): the coordinates c, then sin(1.4^i π c) and cos(1.4^i π c) for i < L; row before column.

    For each i and each coordinate, the sine stands before the cosine.
    """

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.scales = [math.pi * SCALE**i for i in range(frequencies)]

    def forward(self, x: Tensor) -> Tensor:
        if not self.scales:
            return x
        angles = x[..., None, :] * x.new_tensor(self.scales)[:, None]
        waves = torch.stack((angles.sin(), angles.cos()), -1)
        return torch.cat((x, waves.flatten(-3)), -1)


class Sine(nn.Module):
    """sin(30 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(OMEGA * x)


class SineNetwork(nn.Module):
    """Input (N, P, 2) in [−1, 1], row first; output (N, P, 3), where −1 is no light and 1 is full light.

    `size` is (height, width) in pixels of the picture that the network draws: a decoder has no other source for it.
    """

    def __init__(self, size: tuple[int, int], width: int, frequencies: int) -> None:
        super().__init__()
        self.size = size
        self.encoding = Encoding(frequencies)
        widths = [2 + 4 * frequencies, *[width] * HIDDEN]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), Sine()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 3))
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """SIREN's weights: U(±1/n) in the first layer, U(±√(6/n)/30) in the others; biases are PyTorch's."""
        for number, layer in enumerate(m for m in self.layers if isinstance(m, nn.Linear)):
            inputs = layer.in_features
            bound = math.sqrt(6 / inputs) / OMEGA if number else 1 / inputs
            layer.weight.uniform_(-bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        count = -(-self.size[0] * self.size[1] // BLOCK)
        blocks = x.tensor_split(count, -2)  # of one size, and by a number: torch.fx can't trace a loop over them
        return torch.cat([self.layers(self.encoding(blocks[n])) for n in range(count)], -2)


def sine(size: Sequence[int], width: int, frequencies: int) -> SineNetwork:
    """`size` is the picture's (height, width), `width` that of hidden layers, `frequencies` the L of the encoding."""
    whole = isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and 1 <= n <= MOST for n in size)
    if not whole or not all(type(n) is int for n in (width, frequencies)):
        msg = f"size has to be two whole numbers between 1 and {MOST}, width and frequencies one each"
        raise ValueError(msg)
    if not 1 <= width <= 1024 or not 0 <= frequencies <= 64:
        raise ValueError("width has to be between 1 and 1024, frequencies between 0 and 64")
    return SineNetwork((size[0], size[1]), width, frequencies)


def coordinates(height: int, width: int) -> Tensor:
    """(height · width, 2): row/(height − 1) and column/(width − 1) of each pixel, as 2 t − 1; 0 along a side of one pixel."""

    def line(pixels: int) -> Tensor:
        return torch.linspace(-1, 1, pixels) if pixels > 1 else torch.zeros(1)

    return torch.cartesian_prod(line(height), line(width))
