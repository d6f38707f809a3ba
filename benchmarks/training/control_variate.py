"""BatchNorm statistics of a compressed network, with the uncompressed network on the same items as a control variate.

Statistics of a few hundred items alone differ from those of the training images by what is peculiar to these items. The
uncompressed network, whose statistics over the training images are known, tells how much that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from benchmarks.training.batchnorm import reestimate
from methods.interface import Task

Statistics: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]  # running mean and variance by path
MOST = 4.0  # a variance that was nearly zero on these items may grow by any factor


@dataclass(frozen=True)
class Control:
    """Statistics of each BatchNorm of the uncompressed network: those that it has, and those on the calibration items."""

    stored: Statistics
    measured: Statistics


def between(network: nn.Module, twin: nn.Module) -> Control:
    """The statistics of an uncompressed network and of a twin with those of calibration items.

    Both may have lost the same channels since.
    """
    return Control(_copied(network), _copied(twin))


@torch.no_grad()
def control(network: nn.Module, task: Task, items: int) -> Control:
    """The statistics of an uncompressed network: those that it has, and keeps, and those on `items` calibration items."""
    if not items:
        return Control({}, {})
    stored, buffers = _copied(network), [buffer.clone() for buffer in network.buffers()]
    reestimate(network, task, items)
    known = Control(stored, _copied(network))
    for buffer, before in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(before)
    return known


def _copied(network: nn.Module) -> Statistics:
    return {path: (mean.clone(), variance.clone()) for path, (mean, variance) in _running(network).items()}


def _running(network: nn.Module) -> Statistics:
    norms = {path: m for path, m in network.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)}
    return {p: (m.running_mean, m.running_var) for p, m in norms.items() if m.running_mean is not None}


@torch.no_grad()
def correct(network: nn.Module, task: Task, items: int, known: Control) -> None:
    """Set running means and variances, in place, to the stored ones of the uncompressed network and what compression changed.

    Both networks see the same items: without compression, the stored statistics stay as they are. What is peculiar to the
    items, stored − measured, is scaled with the variance of a channel, at most MOST times. The network's BatchNorms are among
    those of `known`, with the same paths and channels. It is in eval mode afterwards. Does nothing for `items` = 0.
    """
    if not items:
        return
    reestimate(network, task, items)
    for path, (mean, variance) in _running(network).items():
        stored_mean, stored_variance = (t.to(mean) for t in known.stored[path])
        mean_then, variance_then = (t.to(mean) for t in known.measured[path])
        factor = (variance / variance_then).nan_to_num(1.0).clamp(max=MOST)
        mean += (stored_mean - mean_then) * factor.sqrt()
        variance += (stored_variance - variance_then) * factor
