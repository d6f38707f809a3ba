"""A convolution or linear layer whose inputs are rounded to a grid before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import checked, flag, whole
from methods.interface import ModuleSpec

KIND = "QuantisedLayer"
MOST = 16  # bits


def unit(x: Tensor, clip: Tensor, signed: bool) -> Tensor:
    """Inputs as shares in [0, 1] of the range from 0, or from −clip, to clip: values beyond it are clipped."""
    share = x / clip
    return (share.clamp(-1, 1) + 1) / 2 if signed else share.clamp(0, 1)


def value(codes: Tensor, clip: Tensor, bits: int, signed: bool) -> Tensor:
    """What the codes 0 … 2^bits − 1 stand for: equal steps from 0, or from −clip, to clip."""
    last = 2**bits - 1
    found: Tensor = (2 * codes - last if signed else codes) * (clip / last)
    return found


class QuantisedLayer(nn.Module):
    """A layer that reads its inputs rounded to 2^input_bits values in equal steps from 0, or if `signed` from −clip, to clip.

    The parameter `clip` (1,) is in the units of the inputs. Inputs beyond the range are clipped; a
    range of 0 or below is taken for the smallest one. With `input_bits` 0 they
    stay as they are, and there is no `clip`. The weight of the layer has at most 2^weight_bits different values: a count of
    bit operations uses this number (`benchmarks.evaluation.bops`).
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, weight_bits: int, input_bits: int, signed: bool) -> None:
        super().__init__()
        self.layer = layer
        self.weight_bits, self.input_bits, self.signed = weight_bits, input_bits, signed
        self.clip = nn.Parameter(torch.empty(1)) if input_bits else None

    def forward(self, x: Tensor) -> Tensor:
        if self.clip is not None:
            last = 2**self.input_bits - 1
            clip = self.clip.clamp_min(torch.finfo(self.clip.dtype).tiny)  # a file may hold any range
            x = value((unit(x, clip, self.signed) * last).round(), clip, self.input_bits, self.signed)
        found: Tensor = self.layer(x)
        return found

    def extra_repr(self) -> str:
        return f"weight_bits={self.weight_bits}, input_bits={self.input_bits}, signed={self.signed}"


def spec(layer: ModuleSpec, weight_bits: int, input_bits: int, signed: bool) -> ModuleSpec:
    """Round the inputs of `layer`, a Conv2d or a Linear; its tensors are below the path `layer`, beside `clip`."""
    arguments = {"weight_bits": weight_bits, "input_bits": input_bits, "signed": signed}
    return ModuleSpec(KIND, arguments, (layer,))


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    required = {"weight_bits": whole(1, MOST), "input_bits": whole(0, MOST), "signed": flag}
    found = checked(arguments, required)
    if len(children) != 1 or not isinstance(children[0], nn.Conv2d | nn.Linear):
        raise TypeError("it takes one child module, a Conv2d or a Linear")
    return QuantisedLayer(children[0], **found)
