"""The decoder module that computes with coefficients: the filters of the basis for each channel, then a 1×1 convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import PADDING, SIZE, WINDOW, checked, flag, no_children, whole
from methods.approxconv.bases import LARGEST, Basis, Series, functions
from methods.interface import ModuleSpec

Pair = tuple[int, int]


class BasisConv2d(nn.Module):
    """A convolution whose kernels are sums of order² filters: (N, in_channels, H, W) to (N, out_channels, H', W').

    Each channel is convolved with the filters, in two passes of one dimension if they are products of functions of a series. A
    1×1 convolution with the `coefficients` (out_channels, in_channels/groups, order, order) follows. `filters`
    (order², size, size) are those of the basis "pca".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        order: int,
        kind: Basis,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError("groups has to divide the channels")
        if order > size:
            raise ValueError("order has to be at most size")
        self.size, self.order, self.kind, self.groups = size, order, kind, groups
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.coefficients = nn.Parameter(torch.empty(out_channels, in_channels // groups, order, order))
        self.filters = nn.Parameter(torch.empty(order**2, size, size)) if kind == "pca" else None
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        mixing = self.coefficients.flatten(1)[:, :, None, None]
        if self.filters is not None:
            x = self._each(x, self.filters, self.stride, self.padding, self.dilation)
        else:
            x = self._each(x, self._functions(x)[:, :, None], *self._along(0))
            x = self._each(x, self._functions(x)[:, None], *self._along(1))
        return nn.functional.conv2d(x, mixing, self.bias, groups=self.groups)

    def _each(self, x: Tensor, kernels: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
        """Each channel with each kernel (n, h, w); the channels of one input channel are neighbours."""
        channels = x.shape[1]
        weight = kernels[:, None].repeat(channels, 1, 1, 1)
        return nn.functional.conv2d(x, weight, None, stride, padding, dilation, channels)

    def _functions(self, x: Tensor) -> Tensor:
        kind: Series = self.kind  # type: ignore[assignment]
        return torch.tensor(functions(kind, self.order, self.size), dtype=x.dtype, device=x.device)

    def _along(self, side: int) -> tuple[Pair, Pair, Pair]:
        """Stride, padding and dilation of the pass along one side."""
        neutral = ((self.stride, 1), (self.padding, 0), (self.dilation, 1))
        stride, padding, dilation = ((p[0], n) if side == 0 else (n, p[1]) for p, n in neutral)
        return stride, padding, dilation


def spec(layer: nn.Conv2d, order: int, kind: Basis) -> ModuleSpec:
    """The replacement of a convolution that is padded with zeros by numbers."""
    arguments = {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "size": layer.kernel_size[0],
        "order": order,
        "kind": kind,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "bias": layer.bias is not None,
    }
    return ModuleSpec("approxconv.basis_conv2d", arguments)


def multiplications(layer: nn.Conv2d, order: int, kind: Basis) -> tuple[int, int]:
    """(of the convolution, of its replacement) multiply-accumulates for one output pixel."""
    size, inputs = layer.kernel_size[0], layer.in_channels
    mixed = layer.out_channels * inputs // layer.groups
    two_passes = order * inputs * size * (layer.stride[1] + order)
    fixed = order**2 * inputs * size**2 if kind == "pca" else two_passes
    return mixed * size**2, mixed * order**2 + fixed


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    required = {
        "in_channels": SIZE,
        "out_channels": SIZE,
        "size": whole(1, LARGEST),
        "order": whole(1, LARGEST),
        "kind": _kind,
    }
    window = {"stride": WINDOW, "padding": PADDING, "dilation": WINDOW}
    return BasisConv2d(**checked(arguments, required, **window, groups=SIZE, bias=flag))


def _kind(value: Any) -> Any:
    if value not in ("cosine", "chebyshev", "dct", "pca"):
        raise ValueError("has to be cosine, chebyshev, dct or pca")
    return value


MODULES = {"basis_conv2d": SimpleNamespace(build=build)}
