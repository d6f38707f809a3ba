"""HSPG: steps along the subgradient, then steps that set a unit to zero where they leave its half-space.

T. Chen et al., A Half-Space Stochastic Projected Gradient Method for Group Sparsity Regularization, arXiv 2009.12078. Momentum,
the cap, the adapted ε and the division of λ are those of the authors' public code (only_train_once).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from methods.sparse_opt.cap import Cap
from methods.sparse_opt.units import Units

MOMENTUM = 0.9
SMALL = 1e-6  # added to norms in the subgradient
RISE, MOST, STALLED = 0.1, 0.999, 0.01  # ε rises by RISE up to MOST if the share of zero units has not grown by STALLED


class GroupOptimiser(torch.optim.Optimizer):
    """Minimises the loss plus λ · Σ‖x_u‖ over units u; other parameters have no penalty. Zero units stay zero in `alive` = 0.

    λ is `strength` times the factor of the learning rate. Every tensor stays on the device.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        units: Units,
        strength: float,
        alive: Tensor,
        cap: Cap | None,
        momentum: float,
    ) -> None:
        super().__init__(groups, {"momentum": momentum})
        device = self.param_groups[0]["params"][0].device
        self._units, self._strength = units.to(device), strength
        self._cap = None if cap is None else cap.to(device)
        self._first = self.param_groups[0]["params"][0]  # its state is also that of the optimiser
        self._rate = self.param_groups[0]["lr"]
        for group in self.param_groups:
            for x in group["params"]:
                self.state[x]["momentum_buffer"] = torch.zeros_like(x)
        own = {"alive": alive.to(device, torch.float32), "step": torch.zeros((), dtype=torch.int64)}
        self.state[self._first].update(own)

    @property
    def alive(self) -> Tensor:
        """1 for units that may differ from zero, and 0 for the others: (units,), in fp32."""
        found: Tensor = self.state[self._first]["alive"]
        return found

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; a parameter without a gradient counts as one whose gradient is zero."""
        own = self.state[self._first]
        penalty = self._strength * self.param_groups[0]["lr"] / self._rate if self._rate else 0.0
        xs = self._units.parameters
        self._move(xs, self._units.products(xs, xs), penalty, int(own["step"]))
        own["step"] += 1

    def _move(self, xs: list[Tensor], squares: Tensor, penalty: float, done: int) -> None:
        """Change all parameters; `xs` are those with units, whose squared norms are `squares`."""
        raise NotImplementedError

    def _momentum(self) -> None:
        """Add the gradients to the momentum buffers."""
        for group in self.param_groups:
            with_gradient = [x for x in group["params"] if x.grad is not None]
            torch._foreach_mul_(self._buffers(group["params"]), group["momentum"])
            torch._foreach_add_(self._buffers(with_gradient), [x.grad for x in with_gradient])

    def _descend(self) -> None:
        for group in self.param_groups:
            torch._foreach_add_(group["params"], self._buffers(group["params"]), alpha=-group["lr"])

    def _buffers(self, xs: list[Tensor]) -> list[Tensor]:
        return [self.state[x]["momentum_buffer"] for x in xs]


class GroupProxSG(GroupOptimiser):
    """The proximal method: x_u ← v_u · max(0, 1 − lr l / ‖v_u‖), with v = x − lr · the momentum buffer.

    l is λ through the same momentum as the gradients, so that a point that stays where it is minimises the same objective with
    any momentum. `cap` says how many units may become zero (None: all); the others take the step without the penalty.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        units: Units,
        strength: float,
        alive: Tensor,
        cap: Cap | None = None,
        momentum: float = MOMENTUM,
    ) -> None:
        super().__init__(groups, units, strength, alive, cap, momentum)
        self.state[self._first]["penalty"] = self.alive.new_zeros(())

    def _move(self, xs: list[Tensor], squares: Tensor, penalty: float, done: int) -> None:
        self._momentum()
        self._descend()
        pull = self.state[self._first]["penalty"]
        pull.mul_(self.param_groups[0]["momentum"]).add_(penalty)
        reached = self._units.products(xs, xs).sqrt()
        threshold = self.param_groups[0]["lr"] * pull
        factors = (1 - threshold / reached.clamp_min(torch.finfo(reached.dtype).tiny)).clamp_min(0)
        if self._cap is not None:
            present = (squares > 0).to(self.alive)
            wanted = (factors == 0) & (squares > 0)
            factors[wanted & ~self._cap.permitted(wanted, present, squares)] = 1
        torch._foreach_mul_(xs, self._units.spread(factors * self.alive, 1.0))


class HSPG(GroupOptimiser):
    """`first` steps of momentum SGD along the subgradient g + λ x_u / (‖x_u‖ + 1e-6), then half-space steps.

    A half-space step from x to x̂ sets unit u to zero if ⟨x̂_u, x_u⟩ < ε ‖x_u‖²; zero units stay zero. `cap` says how many
    may become zero (None: all). ε starts at 0 and is adapted every `every` steps (0: never).
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        units: Units,
        strength: float,
        alive: Tensor,
        first: int,
        every: int = 0,
        cap: Cap | None = None,
        momentum: float = MOMENTUM,
        epsilon: float = 0.0,
    ) -> None:
        super().__init__(groups, units, strength, alive, cap, momentum)
        self._begin, self._every = first, every
        own = {"epsilon": self.alive.new_tensor(epsilon), "zeros": 1 - self.alive.mean()}
        self.state[self._first].update(own)

    def _move(self, xs: list[Tensor], squares: Tensor, penalty: float, done: int) -> None:
        self._momentum()
        directions = self._buffers(xs)
        slopes = penalty / (squares.sqrt() + SMALL)
        torch._foreach_addcmul_(directions, xs, self._units.spread(slopes, 0.0))
        if done >= self._begin:
            self._project(squares, self.param_groups[0]["lr"] * self._units.products(directions, xs))
        self._descend()
        torch._foreach_mul_(xs, self._units.spread(self.alive, 1.0))
        if self._every and done >= self._begin and (done + 1 - self._begin) % self._every == 0:
            self._adapt()

    def _project(self, squares: Tensor, falls: Tensor) -> None:
        """Mark the units that leave their half-space; `falls` (units,) are ‖x_u‖² − ⟨x̂_u, x_u⟩."""
        own = self.state[self._first]
        left = (self.alive > 0) & (squares - falls < own["epsilon"] * squares)
        if self._cap is not None:
            left = self._cap.permitted(left, self.alive, squares)
        self.alive.mul_(~left)

    def _adapt(self) -> None:
        own = self.state[self._first]
        zeros = 1 - self.alive.mean()
        raised = (own["epsilon"] + RISE).clamp_max(MOST)
        own["epsilon"] = torch.where(zeros - own["zeros"] < STALLED, raised, own["epsilon"])
        if self._cap is not None:
            own["epsilon"] = torch.where(self._cap.met(self.alive), 0.0, own["epsilon"])
        own["zeros"] = zeros
