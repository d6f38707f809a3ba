"""BatchNorm statistics of a compressed network, with the uncompressed network on the same items as a control variate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from benchmarks.training.batchnorm import reestimate
from methods.interface import Task

Statistics: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]  # running mean and variance by path
MOST = 4.0  # ratios of variances are at most this: a channel may be dead in one of the networks


def statistics(network: nn.Module) -> Statistics:
    """Copies of the running statistics of each BatchNorm that has them."""
    return {path: (mean.clone(), variance.clone()) for path, (mean, variance) in _running(network).items()}


def _running(network: nn.Module) -> Statistics:
    norms = {path: m for path, m in network.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)}
    return {p: (m.running_mean, m.running_var) for p, m in norms.items() if m.running_mean is not None}


def measured(task: Task, items: int) -> Statistics:
    """The statistics of the reference network, estimated on `items` calibration items."""
    reference = task.reference()
    reestimate(reference, task, items)
    return statistics(reference)


@torch.no_grad()
def correct(network: nn.Module, task: Task, items: int, dense: Statistics) -> None:
    """Set running means and variances, in place, to the stored ones of the reference and what compression changed.

    `dense` are those that `measured` found with as many items. Both networks see the same items, so that what is peculiar
    to these cancels out: without compression, the stored statistics stay as they are, unless a variance on these items is
    MOST times as large or small as the stored one. The network has the paths and the channels of the reference. It is in
    eval mode afterwards. Does nothing for `items` = 0.
    """
    if not items:
        return
    reestimate(network, task, items)
    stored = statistics(task.reference())
    for path, (mean, variance) in _running(network).items():
        stored_mean, stored_variance = (t.to(mean) for t in stored[path])
        dense_mean, dense_variance = (t.to(mean) for t in dense[path])
        shrunk = _bounded(variance / dense_variance, 0.0)
        mean += (stored_mean - dense_mean) * shrunk.sqrt()
        variance *= _bounded(stored_variance / dense_variance, 1 / MOST)


def _bounded(ratio: Tensor, least: float) -> Tensor:
    return ratio.nan_to_num(1.0, MOST, least).clamp(least, MOST)
