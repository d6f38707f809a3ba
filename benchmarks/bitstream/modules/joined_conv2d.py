"""A convolution whose kernel is joined from pieces, some of which other layers may share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import PADDING, SIZE, WINDOW, checked, no_children, several, whole
from methods.interface import ModuleSpec

KIND = "JoinedConv2d"
REQUIRED = {
    "channels": SIZE,
    "pieces": several(SIZE, most=4),
    "axis": whole(0, 1),
    "kernel_size": WINDOW,
    "stride": WINDOW,
    "padding": PADDING,
}


class JoinedConv2d(nn.Module):
    """A convolution without bias whose kernel is joined from pieces, so that layers can share pieces.

    `pieces` are the numbers of channels of each piece along `axis` (0: outputs, 1: inputs); `channels` is the size of the
    other axis. A weight has the shape (piece, channels, kH, kW) or (channels, piece, kH, kW).
    """

    def __init__(
        self,
        channels: int,
        pieces: tuple[int, ...],
        axis: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> None:
        super().__init__()
        self.axis, self.stride, self.padding = axis, stride, padding
        shapes = ((p, channels) if axis == 0 else (channels, p) for p in pieces)
        self.weights = nn.ParameterList(torch.empty(*shape, *kernel_size) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.cat(list(self.weights), self.axis)
        return nn.functional.conv2d(x, kernel, None, self.stride, self.padding)

    @torch.no_grad()
    def usual(self) -> nn.Conv2d:
        """A copy as a convolution with one kernel."""
        kernel = torch.cat(list(self.weights), self.axis)
        found = nn.Conv2d(kernel.shape[1], len(kernel), kernel.shape[2:], self.stride, self.padding, bias=False)  # type: ignore[arg-type]
        found.weight.copy_(kernel)
        return found

    def columns(self) -> dict[str, slice]:
        """For each tensor, the columns that it has of the kernel as a matrix (O, inputs)."""
        found, start = {}, 0
        for number, piece in enumerate(self.weights):
            stop = start + piece[0].numel()
            found[f"weights.{number}"] = slice(start, stop) if self.axis else slice(None)
            start = stop
        return found


def spec(
    channels: int,
    pieces: tuple[int, ...],
    axis: int,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> ModuleSpec:
    """Convolve with a kernel of 1 to 4 `pieces`: the tensors `weights.0`, `weights.1` …

    Shapes and arguments are those of `JoinedConv2d`; layers share a piece through `Compressed.tied`.
    """
    arguments = {
        "channels": channels,
        "pieces": pieces,
        "axis": axis,
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
    }
    return ModuleSpec(KIND, arguments)


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return JoinedConv2d(**checked(arguments, REQUIRED))
