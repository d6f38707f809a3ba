"""The mean gradient of the loss by the weights of convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from methods.interface import Run, Split, Task

BATCH = 128


def mean_gradient(
    network: nn.Module, task: Task, run: Run, paths: Sequence[str], split: Split, labels: bool
) -> dict[str, Tensor]:
    """∂L/∂W by path, the mean over the items of `split` as they are, in eval mode, in fp32 on the CPU.

    Without `labels`, the network's own predictions take their place. Raises MethodError if a gradient is not finite.
    """
    network.eval().to(run.device)
    weights = [network.get_submodule(path).get_parameter("weight") for path in paths]
    sums = [torch.zeros_like(weight) for weight in weights]
    for start in range(0, len(split), BATCH):
        chosen = slice(start, start + BATCH)
        outputs = network(task.prepare(split.inputs[chosen].to(run.device)))
        targets = split.targets[chosen].to(run.device) if labels else outputs.detach().argmax(1)
        gradients = torch.autograd.grad(task.loss(outputs, targets) * len(targets), weights)
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient
    network.to("cpu")
    for path, total in zip(paths, sums, strict=True):
        if not torch.isfinite(total).all():
            msg = f"the gradients at {path} are not finite: the network's weights or its images hold NaN or infinite values"
            raise MethodError(msg)
    return {path: (total / len(split)).cpu() for path, total in zip(paths, sums, strict=True)}
