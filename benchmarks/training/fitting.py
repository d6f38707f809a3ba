"""Sine networks fitted to pictures, all at the same time: their tensors are stacked (Strümpler et al., ECCV 2022, section 3.2).

Every network has its own learning rate, plateau rule, early stop and best state. The encoding of the coordinates is shared. The
paper uses fp16 with scaled gradients; here everything is fp32. Networks may begin from learned initial weights (section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.networks.sine import OMEGA, SineNetwork
from methods.interface import Run

__fingerprint__ = False  # records hold a hash of the tensors

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's
FACTOR, LEAST_GAIN = 0.5, 1e-4  # of the plateau rule
BLOCK = 2**11  # pixels of a network that pass at a time: the activations stay in the processor's cache
STAGE, OFTEN = "fit", 500  # of checkpoints: their name, and the steps between them


@dataclass(frozen=True)
class Fit:
    """Adam with the learning rate `lr` for `steps` steps; the loss is the mean squared error plus `penalty` · Σ|θ|.

    A step sees the `share` of the pixels, each pixel once in 1/share steps; 1 is the paper's. The learning rate is halved
    after `patience` steps without a loss that is lower than the lowest one by a ten-thousandth; a network stops after `stop`
    steps without a new lowest loss. That loss is the exponential mean over about the last 1/share steps. In the first `warmup`
    steps the rate rises linearly. With learned initial weights θ₀, the penalty is that of θ − θ₀.
    """

    steps: int
    lr: float = 5e-4
    penalty: float = 1e-5
    share: float = 1.0
    patience: int = 500
    stop: int = 5000
    warmup: int = 0


@dataclass(frozen=True)
class Start:
    """Learned initial weights (D,) of a sine network, in the order of its parameters, and the learning rates (K, D) of the K
    inner steps with which it adapts to a picture (`meta_learning`)."""

    weights: Tensor
    rates: Tensor

    def to(self, device: torch.device) -> Start:
        return Start(self.weights.to(device), self.rates.to(device))


def adapted(start: Start, shapes: Sequence[torch.Size], encoded: Tensor, targets: Tensor) -> Tensor:
    """The weights (N, D) after the inner steps, of gradient descent on the squared error of each of N pictures."""
    theta = start.weights.expand(len(targets), -1)
    for rate in start.rates:
        theta = theta - rate * gradients(theta, shapes, encoded, targets, None)[1]
    return theta


class _State:
    """The stacked networks: `theta` (N, D), Adam's moments, and for each network (N, 1) what the rules need.

    `centre` (D,) is where the penalty is zero.
    """

    def __init__(self, theta: Tensor, centre: Tensor, lr: float) -> None:
        count = len(theta)
        self.centre = centre
        self.theta, self.first, self.second = theta, torch.zeros_like(theta), torch.zeros_like(theta)
        self.best = theta.clone()
        self.lr = torch.full((count, 1), lr)
        self.loss = torch.full((count, 1), torch.nan)
        self.lowest = torch.full((count, 1), torch.inf)
        self.plateau = torch.full((count, 1), torch.inf)  # the lowest loss in the plateau rule's sense
        self.bad = torch.zeros(count, 1, dtype=torch.long)  # steps since then
        self.stale = torch.zeros(count, 1, dtype=torch.long)  # steps since the lowest loss
        self.step = 0

    def to(self, device: torch.device) -> _State:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    @torch.no_grad()
    def advance(self, gradient: Tensor, loss: Tensor, recipe: Fit) -> None:
        """Adam's step, and the rules for the loss (N, 1) of the networks as they are before it."""
        self.loss = torch.where(self.loss.isnan(), loss, self.loss + recipe.share * (loss - self.loss))
        better, active = self.loss < self.lowest, self.stale < recipe.stop
        self.best = torch.where(better & active, self.theta, self.best)
        self.lowest = torch.where(better & active, self.loss, self.lowest)
        self.stale = torch.where(better & active, 0, self.stale + 1)
        gained = self.loss < self.plateau * (1 - LEAST_GAIN)
        self.plateau = torch.where(gained, self.loss, self.plateau)
        self.bad = torch.where(gained, 0, self.bad + 1)
        halved = self.bad > recipe.patience
        self.step += 1
        gradient = gradient + recipe.penalty * (self.theta - self.centre).sign()
        self.first = torch.lerp(gradient, self.first, BETAS[0])
        self.second = torch.lerp(gradient.square(), self.second, BETAS[1])
        scale = (self.second / (1 - BETAS[1] ** self.step)).sqrt_().add_(EPSILON)
        warm = min(1.0, self.step / recipe.warmup) if recipe.warmup else 1.0
        self.theta = self.theta - active * warm * self.lr / (1 - BETAS[0] ** self.step) * self.first / scale
        self.lr = torch.where(halved, FACTOR * self.lr, self.lr)
        self.bad = torch.where(halved, 0, self.bad)


def fitted(
    networks: Sequence[nn.Module], inputs: Tensor, colours: Tensor, recipe: Fit, run: Run, start: Start | None = None
) -> list[dict[str, Tensor]]:
    """The tensors of each network, fitted to its picture; all networks have one shape.

    `inputs` (P, 2) are the coordinates of all pixels, `colours` uint8 (N, P, 3) the pictures. With a `start`, each network
    begins from what its inner steps make of the learned weights. Continues from the run's last checkpoint.
    """
    shapes = [parameter.shape for parameter in networks[0].parameters()]
    encoded = cast(SineNetwork, networks[0]).encoding(inputs.to(run.device))
    targets = colours.to(run.device) / 127.5 - 1
    first = torch.stack([nn.utils.parameters_to_vector(network.parameters()).detach() for network in networks])
    state = _State(first, torch.zeros_like(first[0]), recipe.lr)
    if (saved := run.restore(STAGE)) is not None:
        vars(state).update(saved)
    elif start is not None:
        own = start.to(run.device)
        state = _State(adapted(own, shapes, encoded, targets), own.weights, recipe.lr)
    state.to(run.device)
    pixels = len(inputs)
    batch = max(1, round(recipe.share * pixels))
    steps_per_pass = -(-pixels // batch)
    order: Tensor | None = None
    while state.step < recipe.steps and bool((state.stale < recipe.stop).any()):
        number, place = divmod(state.step, steps_per_pass)
        if batch < pixels and (place == 0 or order is None):
            order = torch.randperm(pixels, generator=run.generator("pixels", number)).to(run.device)
        chosen = None if order is None else order[place * batch : (place + 1) * batch]
        error, gradient = gradients(state.theta, shapes, encoded, targets, chosen)
        penalty = recipe.penalty * (state.theta - state.centre).abs().sum(1, keepdim=True)
        state.advance(gradient, error[:, None] + penalty, recipe)
        if state.step % OFTEN == 0 or state.step == recipe.steps:
            run.checkpoint(STAGE, vars(state))
            run.progress(f"step {state.step}, loss {float(state.loss.mean()):.5f}, rate {float(state.lr.mean()):.2g}")
    return [_named(networks[0], theta) for theta in state.best.cpu()]


def gradients(
    theta: Tensor, shapes: Sequence[torch.Size], encoded: Tensor, targets: Tensor, chosen: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The mean squared error (N,) of each network at the `chosen` pixels (None: all), and its gradient (N, D).

    `encoded` (P, F) are the encoded coordinates, `targets` (N, P, 3) the colours.
    """
    theta = theta.detach().requires_grad_()
    rows = range(len(encoded)) if chosen is None else chosen
    errors, gradient = torch.zeros(len(theta), device=theta.device), torch.zeros_like(theta)
    for start in range(0, len(rows), BLOCK):
        if chosen is None:
            x, wanted = encoded[start : start + BLOCK], targets[:, start : start + BLOCK]
        else:
            block = chosen[start : start + BLOCK]
            x, wanted = encoded[block], targets[:, block]
        error = (stacked(theta, shapes, x) - wanted).square().sum((1, 2)) / (3 * len(rows))
        gradient += torch.autograd.grad(error.sum(), theta)[0]
        errors += error.detach()
    return errors, gradient


def stacked(theta: Tensor, shapes: Sequence[torch.Size], x: Tensor) -> Tensor:
    """The outputs (N, P, 3) of networks with the tensors `theta` (N, D) of these `shapes`, for encoded coordinates (P, F)."""
    count = len(theta)
    tensors = [
        flat.view(count, *shape)
        for flat, shape in zip(theta.split([shape.numel() for shape in shapes], 1), shapes, strict=True)
    ]
    values = x.expand(count, -1, -1)
    for weight, bias in zip(tensors[:-2:2], tensors[1:-2:2], strict=True):
        values = torch.baddbmm(OMEGA * bias[:, None], values, OMEGA * weight.mT).sin()
    return torch.baddbmm(tensors[-1][:, None], values, tensors[-2].mT)


def _named(network: nn.Module, theta: Tensor) -> dict[str, Tensor]:
    found, start = {}, 0
    for name, parameter in network.named_parameters():
        found[name] = theta[start : start + parameter.numel()].view(parameter.shape).clone()
        start += parameter.numel()
    return found
