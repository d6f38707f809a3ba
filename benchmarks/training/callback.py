"""Code of a method that the training loop calls at fixed points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Callback:
    """Does nothing: override the methods that you need. `fit` calls, saves and restores it.

    In an epoch: `before_epoch`; then, for each batch, `loss_term` in the forward pass, `before_step` between the backward
    pass and the optimiser's step, and `after_step`.

    If several processes train one network, each calls its own copy, and all copies must make the same changes: draw
    random numbers from `Run.generator`, since torch's own differ between processes.
    """

    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        """Before the first step of an epoch, counted from 0."""

    def loss_term(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """A scalar to add to the task's loss (the mean over these items), or None.

        `inputs` (n, …) are the inputs of the network and `outputs` (n, …) its outputs, in fp32. The items are a batch or a
        part of one: with RATEBENCH_MICRO or several processes, the loss and this term are weighted by the size of the part.
        """
        return None

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        """Change gradients in place: they are those of the whole batch, averaged over the processes.

        Runs under `torch.no_grad`. A parameter whose `grad` is set to None is not changed in this step. The learning
        rates of the step are set already; masks have not been applied to the gradients.
        """

    def after_step(self) -> None:
        """Change parameters in place, after the step and after the masks. Runs under `torch.no_grad`."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that `load_state_dict` needs to continue after the epoch that has just ended."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned; its tensors may be on the CPU."""
