"""Training of a linear read-out on features that are computed once.

As in the official code of Gu et al. (NeurIPS 2022), the loss is the cross-entropy of a softmax of the softmax of the outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.networks.random_features import RandomFeatures
from methods.interface import Augmentation, Split, Task

ROWS = 1_000  # items whose activations are in memory together


@torch.no_grad()
def in_batches(compute: Callable[[Tensor], Tensor], task: Task, inputs: Tensor) -> Tensor:
    """`compute` of the task's prepared `inputs` (N, …), some rows at a time: (N, d)."""
    first = compute(task.prepare(inputs[:ROWS]))
    found = first.new_empty(len(inputs), *first.shape[1:])
    found[:ROWS] = first
    for start in range(ROWS, len(inputs), ROWS):
        found[start : start + ROWS] = compute(task.prepare(inputs[start : start + ROWS]))
    return found


def features(network: RandomFeatures, task: Task, inputs: Tensor) -> Tensor:
    """The features (N, d) of stored inputs (N, …)."""
    return in_batches(network.features, task, inputs)


@dataclass(frozen=True, eq=False)
class Readout:
    """A task as the read-out sees it, for `fit`: `compute` makes the features (N, d) of the training items when asked for."""

    task: Task
    compute: Callable[[], Tensor]
    augmentation = Augmentation()

    @functools.cached_property
    def train(self) -> Split:
        return Split(self.compute(), self.task.train.targets)

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(torch.softmax(outputs, 1), targets)
