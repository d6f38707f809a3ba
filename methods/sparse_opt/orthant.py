"""OBProx-SG: proximal steps, then steps that stay in the orthant of the current signs.

T. Chen et al., Orthant Based Proximal Stochastic Gradient Method for l1-Regularized Optimization, ECML-PKDD 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class OBProxSG(torch.optim.Optimizer):
    """Minimises the loss plus `strength` · ‖x‖₁ over all parameters x, without momentum.

    `prox` proximal steps alternate with `orthant` orthant steps; with `orthant` None, no proximal step follows them
    (OBProx-SG+). In an orthant step zeros stay zero, and a value whose sign would change becomes zero.
    """

    def __init__(self, groups: list[dict[str, Any]], strength: float, prox: int, orthant: int | None = None) -> None:
        super().__init__(groups, {"strength": strength, "steps": 0})
        self._prox, self._orthant = prox, orthant

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of the stage that it is time for; a parameter without a gradient stays as it is."""
        for group in self.param_groups:
            done = group["steps"] if self._orthant is None else group["steps"] % (self._prox + self._orthant)
            xs = [x for x in group["params"] if x.grad is not None]
            if xs:
                move = prox_step if done < self._prox else orthant_step
                move(xs, [x.grad for x in xs], group["lr"], group["strength"])
            group["steps"] += 1


def prox_step(xs: list[Tensor], gradients: list[Tensor], lr: float, strength: float) -> None:
    """x ← S(x − lr · g) in place, with S(u) = sign(u) · max(|u| − lr · strength, 0)."""
    torch._foreach_add_(xs, gradients, alpha=-lr)
    near = torch._foreach_clamp_min(xs, -lr * strength)
    torch._foreach_clamp_max_(near, lr * strength)
    torch._foreach_sub_(xs, near)


def orthant_step(xs: list[Tensor], gradients: list[Tensor], lr: float, strength: float) -> None:
    """x ← x − lr · (g + strength · sign(x)) in place; zeros stay zero, and values whose sign would change become zero."""
    signs = torch._foreach_sign(xs)
    torch._foreach_add_(xs, gradients, alpha=-lr)
    torch._foreach_add_(xs, signs, alpha=-lr * strength)
    torch._foreach_mul_(xs, signs)  # positive where the sign stays
    torch._foreach_clamp_min_(xs, 0.0)
    torch._foreach_mul_(xs, signs)
