"""Quantisation-aware training with an entropy term: passes use rounded weights, and the steps of the grids are learned.

Gradients of rounding are taken for 1 (straight-through), and those of steps are scaled as in LSQ (Esser et al., ICLR 2020).
Classes are also learned from the reference's outputs (Hinton, Vinyals, Dean, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.training import Callback
from benchmarks.training.layout import channels_last
from benchmarks.training.loop import bf16_is_fast
from methods.families import feedback

TEMPERATURE = 4.0  # divides the outputs before they are compared with the reference's
EVERY = 10  # training steps between two estimates of the rates
INSIDE = 0.499  # of a step: the largest distance of a weight from its integer before training


@dataclass(frozen=True)
class Start:
    """A weight before training, in units of its step: integers, and `wanted` numbers near them, both (groups, rows, size).

    The step of a row is `step` times `unit` (groups, rows, 1). `kernel` is the number of places of the kernel.
    """

    codes: Tensor
    wanted: Tensor
    step: float
    unit: Tensor
    kernel: int


class OnSteps(nn.Module):
    """A network whose passes use weights that are rounded to learned steps.

    The network is not copied. Its weights, by name, are those before rounding: at first the numbers that are nearest to the
    wanted ones among those that give the integers of the start.
    """

    def __init__(self, network: nn.Module, starts: Mapping[str, Start]) -> None:
        super().__init__()
        self.network, self.names = network, list(starts)
        self.steps = nn.ParameterList(torch.tensor(start.step) for start in starts.values())
        self._groups, self._kernels, self._shrink = [], [], []
        for number, (name, start) in enumerate(starts.items()):
            weight = network.get_parameter(name)
            inside = torch.minimum(torch.maximum(start.wanted, start.codes - INSIDE), start.codes + INSIDE)
            with torch.no_grad():
                weight.copy_((inside * start.unit * start.step).reshape(weight.shape))
            self.register_buffer(f"unit{number}", start.unit.float().reshape(-1, *[1] * (weight.ndim - 1)))
            self._groups.append(len(start.codes)), self._kernels.append(start.kernel)
            self._shrink.append(1 / math.sqrt(weight.numel() * max(1.0, float(start.codes.abs().max()))))

    def forward(self, x: Tensor) -> Tensor:
        weights = {}
        for number, (name, scaled) in enumerate(zip(self.names, self.scaled(), strict=True)):
            whole = scaled + (scaled.round() - scaled).detach()
            weights[name] = whole * self._step(number)
        output: Tensor = torch.func.functional_call(self.network, weights, (x,))
        return output

    def _step(self, number: int) -> Tensor:
        """The step of each output channel, (O, 1, …); its gradient is smaller by a constant."""
        step, share = self.steps[number], self._shrink[number]
        return (step * share + (step * (1 - share)).detach()) * self.get_buffer(f"unit{number}")

    def scaled(self) -> list[Tensor]:
        """Weights in units of their steps."""
        return [self.network.get_parameter(name) / self._step(number) for number, name in enumerate(self.names)]

    @torch.no_grad()
    def codes(self) -> list[Tensor]:
        """The integers of each weight, of its shape."""
        return [scaled.round() for scaled in self.scaled()]

    @torch.no_grad()
    def bits_per_unit(self) -> list[Tensor]:
        """What a unit of magnitude costs at each place of each weight (`feedback.bits_per_unit`)."""
        found = []
        for codes, groups, kernel in zip(self.codes(), self._groups, self._kernels, strict=True):
            matrices = codes.reshape(groups, -1, codes[0].numel())
            found.append(feedback.bits_per_unit(matrices, kernel).reshape(codes.shape))
        return found


def divergence(outputs: Tensor, wanted: Tensor) -> Tensor:
    """T² KL(softmax(wanted / T) ‖ softmax(outputs / T)) of logits (n, classes), in nats, the mean over items."""
    logs = [(logits / TEMPERATURE).log_softmax(1) for logits in (outputs, wanted)]
    return TEMPERATURE**2 * nn.functional.kl_div(*logs, reduction="batchmean", log_target=True)


class Terms(Callback):
    """Adds `price` times the mean number of bits of a weight to the loss, and the divergence from a `reference` if given.

    Bits per unit of magnitude count as constants. The reference, in eval mode, gives the logits of classes.
    """

    def __init__(self, network: OnSteps, price: float, reference: nn.Module | None = None) -> None:
        self._network, self._price, self._reference, self._done = network, price, reference, 0
        self._bits: list[Tensor] = []
        if reference is not None:
            channels_last(reference)

    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        self._done, self._bits = 0, self._network.bits_per_unit()

    def loss_term(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor | None:
        terms = [self._rate()] if self._price else []
        if self._reference is not None:
            with (
                torch.no_grad(),
                torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16_is_fast(inputs.device)),
            ):
                wanted = self._reference(inputs).float()
            terms.append(divergence(outputs, wanted))
        return torch.stack(terms).sum() if terms else None

    def _rate(self) -> Tensor:
        pairs = list(zip(self._bits, self._network.scaled(), strict=True))
        bits = torch.stack([(bits * own.abs()).sum() for bits, own in pairs]).sum()
        return self._price * bits / sum(own.numel() for _, own in pairs)

    def after_step(self) -> None:
        self._done += 1
        if self._done % EVERY == 0:
            self._bits = self._network.bits_per_unit()
