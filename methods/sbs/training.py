"""How the search trains: the cost in the loss, thresholds of weights and of inputs in turn, and their own learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from methods.families.quantised_activations import Positive
from methods.sbs.operations import Operations
from methods.sbs.searched import SIDES

MOMENTUM = 0.9


class Optimise:
    """SGD with Nesterov's momentum that separates the thresholds: they have no weight decay, and the learning rate `lr`."""

    def __init__(self, thresholds: Sequence[nn.Parameter], lr: float, weight_decay: float) -> None:
        self._thresholds, self._lr, self._weight_decay = {id(one) for one in thresholds}, lr, weight_decay

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        split: list[dict[str, Any]] = []
        for group in groups:
            own = [p for p in group["params"] if id(p) in self._thresholds]
            others = [p for p in group["params"] if id(p) not in self._thresholds]
            split += [{**group, "params": others}] if others else []
            split += [{**group, "params": own, "lr": self._lr, "weight_decay": 0.0}] if own else []
        return torch.optim.SGD(split, momentum=MOMENTUM, weight_decay=self._weight_decay, nesterov=True)


class Searching(Positive):
    """Adds `penalty` · log R to the loss while the bit operations R are above `goal` (Equation 17 of the first version).

    In even steps the thresholds of weights and filters are trained, in odd ones those of inputs; if there are none, all steps
    are even. Thresholds stay in their bounds: not below 0, and for filters not beyond what may be pruned.
    """

    def __init__(self, operations: Operations, goal: float, penalty: float) -> None:
        self._network = operations.network
        super().__init__(self._network)
        self._operations, self._goal, self._penalty = operations, goal, penalty
        self._thresholds = self._network.thresholds()
        self.step = 0

    def turn(self) -> str:
        """The side whose thresholds this step trains."""
        return "inputs" if self.step % 2 and self._thresholds["inputs"] else "weights"

    def loss_term(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor | None:
        self._operations.to(outputs.device)
        left = (self._operations.total(self.turn()) / self._goal).log()
        return self._penalty * left.clamp_min(0).float()

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        for threshold in self._thresholds["weights" if self.turn() == "inputs" else "inputs"]:
            threshold.grad = None

    def after_step(self) -> None:
        super().after_step()
        for grid in (grid for side in SIDES for grid in self._network.grids(side)):
            assert grid.thresholds is not None
            grid.thresholds.clamp_(min=0)
        for group, filters in self._network.pairs():
            filters.clamp(self._network.by_channel(group))
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
