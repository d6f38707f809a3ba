"""Initial weights of sine networks, learned on other pictures: MAML (Strümpler et al., ECCV 2022, section 3.3).

A few steps of gradient descent from these weights shall draw any picture well. Every weight has a learning rate of its own in
each of these steps, which is learned, too. The gradient passes through the steps (Finn et al., Model-Agnostic Meta-Learning,
ICML 2017; Li et al., Meta-SGD, 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.networks.sine import SineNetwork
from benchmarks.training.fitting import Start, adapted, gradients, stacked
from methods.interface import Run

__fingerprint__ = False  # records hold a hash of the tensors
STAGE = "initial weights"  # of checkpoints, one at each validation
FACTOR = 0.5  # of the learning rate, after `patience` validations without a lower loss


@dataclass(frozen=True)
class Learning:
    """Adam with the learning rate `lr` for `steps` steps of one picture each, each with `inner` steps of gradient descent.

    Their learning rates are `rate` at first. The loss over the validation pictures, every `every` steps, chooses the best
    weights, and halves `lr` after `patience` times without a lower one.
    """

    steps: int
    lr: float = 5e-5
    inner: int = 3
    rate: float = 1e-5
    every: int = 500
    patience: int = 10


def loss(start: Start, shapes: Sequence[torch.Size], encoded: Tensor, target: Tensor) -> Tensor:
    """The mean squared error after the inner steps on one picture; its gradient passes through the steps, to second order.

    `encoded` (P, F) are the encoded coordinates, `target` (P, 3) the colours in [−1, 1].
    """
    theta = start.weights
    for rate in start.rates:
        (gradient,) = torch.autograd.grad(_error(theta, shapes, encoded, target), theta, create_graph=True)
        theta = theta - rate * gradient
    return _error(theta, shapes, encoded, target)


def learned(
    network: nn.Module, inputs: Tensor, pictures: Tensor, validation: Tensor, recipe: Learning, run: Run
) -> Start:
    """The start for networks of the shape of `network`, a sine network, from which the training begins.

    `inputs` (P, 2) are the coordinates of all pixels, `pictures` and `validation` uint8 (N, P, 3). Each picture is seen once
    before one is seen again. Continues from the run's last checkpoint.
    """
    shapes = [parameter.shape for parameter in network.parameters()]
    weights = nn.utils.parameters_to_vector(network.parameters()).detach().to(run.device).requires_grad_()
    rates = torch.full((recipe.inner, len(weights)), recipe.rate, device=run.device, requires_grad=True)
    optimiser = torch.optim.Adam([weights, rates], recipe.lr)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=FACTOR, patience=recipe.patience)
    encoded = cast(SineNetwork, network).encoding(inputs.to(run.device))
    done, lowest, best = 0, torch.inf, (weights.detach().clone(), rates.detach().clone())
    if (state := run.restore(STAGE)) is not None:
        with torch.no_grad():
            weights.copy_(state["weights"])
            rates.copy_(state["rates"])
        optimiser.load_state_dict(state["optimiser"])
        plateau.load_state_dict(state["plateau"])
        done, lowest, best = state["step"], state["lowest"], (state["best weights"], state["best rates"])
    for step in range(done, recipe.steps):
        turn, place = divmod(step, len(pictures))
        if place == 0 or step == done:
            order = torch.randperm(len(pictures), generator=run.generator("pictures", turn))
        target = _colours(pictures[order[place]], run.device)
        optimiser.zero_grad()
        loss(Start(weights, rates), shapes, encoded, target).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (step + 1) % recipe.every and step + 1 < recipe.steps:
            continue
        found = _validated(Start(weights, rates), shapes, encoded, validation)
        if found < lowest:
            lowest, best = found, (weights.detach().clone(), rates.detach().clone())
        plateau.step(found)
        run.progress(f"step {step + 1}, validation loss {found:.5f}")
        state = {"weights": weights.detach(), "rates": rates.detach(), "optimiser": optimiser.state_dict()}
        state |= {"plateau": plateau.state_dict(), "best weights": best[0], "best rates": best[1]}
        run.checkpoint(STAGE, state | {"step": step + 1, "lowest": lowest})
    return Start(best[0].cpu(), best[1].cpu())


def _validated(start: Start, shapes: Sequence[torch.Size], encoded: Tensor, pictures: Tensor) -> float:
    """The mean loss over pictures, each after the inner steps on it."""
    start, losses = Start(start.weights.detach(), start.rates.detach()), []
    for picture in pictures:
        target = _colours(picture, encoded.device)[None]
        errors, _ = gradients(adapted(start, shapes, encoded, target), shapes, encoded, target, None)
        losses.append(float(errors))
    return sum(losses) / len(losses)


def _error(theta: Tensor, shapes: Sequence[torch.Size], encoded: Tensor, target: Tensor) -> Tensor:
    return nn.functional.mse_loss(stacked(theta[None], shapes, encoded)[0], target)


def _colours(picture: Tensor, device: torch.device) -> Tensor:
    return picture.to(device) / 127.5 - 1
