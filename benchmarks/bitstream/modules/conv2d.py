"""Convolution: `torch.nn.Conv2d`, padded with zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict, Unpack

from torch import nn

from benchmarks.bitstream.bounds import PADDING, SIZE, WINDOW, checked, flag, no_children
from methods.interface import ModuleSpec

KIND = "Conv2d"
REQUIRED = {"in_channels": SIZE, "out_channels": SIZE, "kernel_size": WINDOW}


class Window(TypedDict, total=False):
    """The arguments of a convolution besides its channels. Those left out have PyTorch's defaults.

    A tuple is (vertical, horizontal); one integer applies to both. `padding` may also be "same".
    """

    kernel_size: Required[int | tuple[int, ...]]
    stride: int | tuple[int, ...]
    padding: int | str | tuple[int, ...]
    dilation: int | tuple[int, ...]
    groups: int
    bias: bool


def spec(in_channels: int, out_channels: int, **window: Unpack[Window]) -> ModuleSpec:
    """Convolve (N, in_channels, H, W) to (N, out_channels, H', W').

    The file stores the arguments unchanged, in the order of the call.
    """
    return ModuleSpec(KIND, {"in_channels": in_channels, "out_channels": out_channels, **window})


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    window = {"stride": WINDOW, "padding": _padding, "dilation": WINDOW}
    return nn.Conv2d(**checked(arguments, REQUIRED, **window, groups=SIZE, bias=flag))


def _padding(value: Any) -> Any:
    return value if value == "same" else PADDING(value)
