"""BatchNorm statistics of a compressed network, with the uncompressed network on the same items as a control variate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from benchmarks.training.batchnorm import foldable, reestimate
from methods.interface import Task

Statistics: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]  # running mean and variance by path
MOST = 4.0  # ratios of variances are between 1 / MOST and MOST: a channel may be dead in one of the networks


def statistics(network: nn.Module) -> Statistics:
    """Copies of the running statistics of each BatchNorm with all its tensors."""
    norms = {path: module for path, module in network.named_modules() if foldable(module)}
    return {path: (norm.running_mean.clone(), norm.running_var.clone()) for path, norm in norms.items()}


def measured(task: Task, items: int) -> Statistics:
    """The statistics of the reference network, estimated on `items` calibration items."""
    reference = task.reference()
    reestimate(reference, task, items)
    return statistics(reference)


@torch.no_grad()
def correct(network: nn.Module, task: Task, items: int, dense: Statistics) -> None:
    """Set running means and variances, in place, to the stored ones of the reference and what compression changed.

    `dense` are those that `measured` found with as many items. Both networks see the same items, so that what is peculiar
    to these cancels out: without compression, the stored statistics stay as they are. The network has the paths and the
    channels of the reference. It is in eval mode afterwards. Does nothing for `items` = 0.
    """
    if not items:
        return
    stored = statistics(task.reference())
    reestimate(network, task, items)
    for path, (mean, variance) in statistics(network).items():
        (own_mean, own_variance), norm = stored[path], network.get_submodule(path)
        dense_mean, dense_variance = dense[path]
        ratio = _bounded(variance / dense_variance)
        norm.running_mean.copy_(mean + (own_mean - dense_mean) * ratio.sqrt())  # type: ignore[union-attr,operator]
        norm.running_var.copy_(variance * _bounded(own_variance / dense_variance))  # type: ignore[union-attr,operator]


def _bounded(ratio: Tensor) -> Tensor:
    return ratio.nan_to_num(1.0, MOST, 1.0).clamp(1 / MOST, MOST)
