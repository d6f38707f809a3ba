"""Binary gates with learned thresholds, and a quantiser whose bits they choose.

Equation numbers are those of the paper's first version (ABS: Automatic Bit Sharing for Model Compression, 2021).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.modules.quantised_layer import unit, value
from methods.families.quantised_activations import ENDS, on_grid

BITS = (2, 4, 8)


class Gate(torch.autograd.Function):
    """1 where a metric is above its threshold, else 0; the gradient is that of a sigmoid of the difference (Equation 15)."""

    @staticmethod
    def forward(ctx: Any, metric: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(metric, threshold)
        return (metric > threshold).to(metric)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        metric, threshold = ctx.saved_tensors
        s = torch.sigmoid(metric - threshold)
        slope = gradient * s * (1 - s)
        return slope, -slope.sum_to_size(threshold.shape)


def gate(metric: Tensor, threshold: Tensor) -> Tensor:
    found: Tensor = Gate.apply(metric, threshold)  # type: ignore[no-untyped-call]
    return found


class Shared(torch.autograd.Function):
    """The value of shares z for gates g (2,): z₂ + g₁ (ε₄ + g₂ ε₈), with the offsets ε between the grids of 2, 4 and 8 bits.

    Grids are nested: a sum of offsets is z on the finer grid (Equations 8 to 13), so that it is computed as that. The
    gradient to z is that of rounding with slope 1. Nothing but z is kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, clip: Tensor, gates: Tensor, signed: bool) -> Tensor:
        ctx.save_for_backward(z, clip, gates)
        ctx.signed = signed
        low, middle, high = _levels(z, clip, signed)
        return torch.where(gates[0] > 0, torch.where(gates[1] > 0, high, middle), low)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        z, clip, gates = ctx.saved_tensors
        low, middle, high = _levels(z, clip, ctx.signed)
        top = torch.where(gates[1] > 0, high, middle)
        own = torch.where(gates[0] > 0, top, low)
        slopes = torch.stack([(gradient * (top - low)).sum(), gates[0] * (gradient * (high - middle)).sum()])
        to_clip = (gradient * own).sum().reshape(1) / clip
        return gradient * clip * (2 if ctx.signed else 1), to_clip, slopes, None


def _levels(z: Tensor, clip: Tensor, signed: bool) -> list[Tensor]:
    return [value((z * (2**bits - 1)).round(), clip, bits, signed) for bits in BITS]


def residuals(z: Tensor, kept: Tensor | None = None) -> Tensor:
    """The mean magnitudes (2,) of what 2 and 4 bits leave of shares z: the metrics of the gates of Equation 13.

    `kept` (broadcast to z's shape, 0 or 1) marks the entries that count.
    """
    with torch.no_grad():
        lasts = (2**bits - 1 for bits in BITS[:-1])
        left = [(z - (z * last).round() / last).abs() for last in lasts]
        if kept is None:
            return torch.stack([r.mean() for r in left])
        number = kept.expand_as(z).sum().clamp_min(1)
        return torch.stack([(r * kept).sum() / number for r in left])


class Grid(nn.Module):
    """The quantiser of a layer's weights or inputs: with two gates 2, 4 or 8 bits, or always 8 bits if not `gated`.

    `clip` (1,) is the trained clip range, `thresholds` (2,) are those of the gates. `metric` (2,) holds the metrics of the last
    batch in training: in eval mode they decide. `gates` are those of the last pass, differentiable in training.
    """

    metric: Tensor

    def __init__(self, signed: bool, gated: bool) -> None:
        super().__init__()
        self.signed = signed
        self.clip = nn.Parameter(torch.ones(1))
        self.thresholds = nn.Parameter(torch.zeros(2)) if gated else None
        self.register_buffer("metric", torch.ones(2))
        self.gates = torch.ones(2)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        z = unit(x.float(), self.clip, self.signed)
        if self.thresholds is None:
            return on_grid(z, self.clip, ENDS, self.signed)
        if self.training:
            self.metric.copy_(residuals(z, kept))
        self.gates = gate(self.metric.clone(), self.thresholds)
        found: Tensor = Shared.apply(z, self.clip, self.gates, self.signed)  # type: ignore[no-untyped-call]
        return found

    def bits(self) -> int:
        """The bits that the gates choose now."""
        if self.thresholds is None:
            return ENDS
        first, second = (self.metric > self.thresholds).tolist()
        return BITS[1 + second] if first else BITS[0]

    @torch.no_grad()
    def close(self) -> None:
        """Raise a threshold so that the last open gate closes."""
        assert self.thresholds is not None and self.bits() > BITS[0]
        last = BITS.index(self.bits()) - 1
        self.thresholds[last] = self.metric[last]

    def margin(self) -> float:
        """By how much the metric of the last open gate is above its threshold."""
        assert self.thresholds is not None
        last = BITS.index(self.bits()) - 1
        return float(self.metric[last] - self.thresholds[last])


class Filters(nn.Module):
    """Gates of groups of `size` neighbouring filters of a layer, with one threshold (1,) for all (Equation 14).

    The metric of a group is the mean magnitude of its weights, divided by the layer's largest magnitude. At most the share
    `most` of the filters may be closed.
    """

    of: Tensor
    sizes: Tensor

    def __init__(self, channels: int, size: int, most: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(1))
        self.register_buffer("of", torch.arange(channels) // size, persistent=False)  # the group of each channel
        self.register_buffer("sizes", self.of.bincount().float(), persistent=False)
        self.closable = min(int(channels * most / size), len(self.sizes) - 1)

    def norms(self, by_channel: Tensor) -> Tensor:
        """The metrics (groups,), from the weights (channels, d)."""
        mean = (by_channel.abs() / by_channel.detach().abs().max().clamp_min(1e-12)).mean(1)
        sums = mean.new_zeros(len(self.sizes)).index_add(0, self.of, mean)
        return sums / self.sizes

    def gates(self, by_channel: Tensor) -> Tensor:
        return gate(self.norms(by_channel), self.threshold)

    @torch.no_grad()
    def clamp(self, by_channel: Tensor) -> None:
        """Keep the threshold between 0 and the largest metric that may be closed."""
        norms = self.norms(by_channel)
        most = float(norms.sort().values[self.closable - 1]) if self.closable else 0.0
        self.threshold.clamp_(0.0, most)

    @torch.no_grad()
    def close(self, by_channel: Tensor) -> None:
        """Raise the threshold so that the next group closes."""
        norms = self.norms(by_channel)
        self.threshold.copy_(norms[norms > self.threshold].min())

    @torch.no_grad()
    def margin(self, by_channel: Tensor) -> tuple[float, int] | None:
        """(By how much the next group's metric is above the threshold, its size); None if no group may be closed."""
        norms = self.norms(by_channel)
        opened = norms > self.threshold
        if len(norms) - int(opened.sum()) >= self.closable:
            return None
        place = int(torch.where(opened, norms, torch.inf).argmin())
        return float(norms[place] - self.threshold), int(self.sizes[place])
