"""The callback that closes gates: after each step of the optimiser, the exact proximal step of the funnel penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from benchmarks.training import Callback
from methods.funnel.penalty import critical, prox
from methods.funnel.ranks import Ranks

Variant: TypeAlias = Literal["relative", "annealed"]
RELATIVE = 0.01  # width of a funnel, as a share of the gate's first value
WIDE, NARROW = 10.0, 0.001  # the widths between which one funnel for all gates is annealed
MOMENTUM = {"relative": 0.0, "annealed": 0.9}
UNDER = 0.999  # gates that stay open are penalised by at most this share of what would close them
GATES = 10.0  # the learning rate of gates, in units of that of other parameters


class Optimise:
    """SGD whose groups separate the gates, which learn GATES times as fast."""

    def __init__(self, gates: Sequence[nn.Parameter], momentum: float) -> None:
        self._gates, self._momentum = {id(gate) for gate in gates}, momentum

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        split: list[dict[str, Any]] = []
        for group in groups:
            gates = [p for p in group["params"] if id(p) in self._gates]
            others = [p for p in group["params"] if id(p) not in self._gates]
            split += [{**group, "params": others}] if others else []
            split += [{**group, "params": gates, "lr": GATES * group["lr"], "gates": True}] if gates else []
        return torch.optim.SGD(split, momentum=self._momentum)


class Closing(Callback):
    """The penalty is `strength` · Σ m f(|g|), over `steps` steps.

    "relative": each gate has m = its first value, and a funnel RELATIVE times as wide; "annealed": m = 1, and one width that
    falls from WIDE to NARROW. Where multiply-accumulates would be above a line that falls from the dense network's to `goal`,
    the gates that a rising penalty would close next are closed as well; the others feel `strength` alone. The penalty ends
    where the goal is met. Of each gated convolution one gate stays open. `forced` (gates,) marks gates that the line closed.
    """

    def __init__(
        self, gates: Sequence[nn.Parameter], ranks: Ranks, goal: float, strength: float, variant: Variant, steps: int
    ) -> None:
        self._gates, self._ranks, self._goal = gates, ranks, goal
        self._strength, self._variant, self._steps = strength, variant, steps
        self._first = torch.cat([gate.detach() for gate in gates]).abs()
        self._rate = 0.0
        self.step = 0
        self.forced = torch.zeros_like(self._first, dtype=torch.bool)

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        self._rate = next(group["lr"] for group in optimiser.param_groups if group.get("gates"))

    def after_step(self) -> None:
        self.step += 1
        self.close(min(1.0, self.step / self._steps))

    @torch.no_grad()
    def close(self, progress: float) -> None:
        """Take the proximal step that is due when this share of the steps has passed."""
        now = torch.cat([gate.detach() for gate in self._gates])
        ranks, first = self._ranks.to(now.device), self._first.to(now.device)
        relative = self._variant == "relative"
        weight = first if relative else torch.ones_like(first)
        width = RELATIVE * first if relative else torch.full_like(first, WIDE + (NARROW - WIDE) * progress)
        least = critical(now, width) / weight
        stays = _last(least, ranks.link, len(self._gates))
        least = torch.where(stays, torch.inf, least)
        order = least.argsort(stable=True)
        line = ranks.dense - (ranks.dense - self._goal) * progress
        due, most = ranks.needed(order, (line, self._goal)).unbind()
        highest = torch.cat([least.new_zeros(1), least[order]]).take(most)
        tau = highest.clamp_max(self._rate * self._strength)
        places = order.argsort()  # of equal gates, only as many close as are due
        penalised, forced = (places < most) & (least <= tau), (places < due) & (least > tau)
        shrunk = prox(now, torch.where(stays, 0.0, torch.minimum(tau, UNDER * least)) * weight, width)
        found = torch.where(penalised | forced, 0.0, shrunk)
        for gate, values in zip(self._gates, torch.split(found, [len(gate) for gate in self._gates]), strict=True):
            gate.copy_(values)
        self.forced = self.forced.to(forced.device) | forced

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "forced": self.forced}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.forced = state["step"], state["forced"]


def _last(values: Tensor, link: Tensor, links: int) -> Tensor:
    """A mask of the largest value of each link; of equal ones, the last: (gates,)."""
    places = values.argsort(stable=True).argsort()
    last = link.new_zeros(links).scatter_reduce(0, link, places, "amax")
    return places == last[link]


def open_gates(gates: Sequence[Tensor]) -> Tensor:
    """A mask of the gates that are not zero: (gates,)."""
    return torch.cat([gate.detach() for gate in gates]) != 0
