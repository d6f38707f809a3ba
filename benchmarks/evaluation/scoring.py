"""Exact scores, one per item; never a mean of batch means."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from benchmarks.evaluation.inference import inference
from benchmarks.training.layout import device_of
from methods.interface import Split, Task

# Items at a time. On a CPU, larger activations are mapped and unmapped at every layer (1.6 times slower at 250).
BATCHES = {"cpu": 64, "cuda": 500}
LARGE = 2**16  # values of an item; on a CPU the activations of 64 such items take gigabytes (VGG-16: 1.6 GB per layer)


def at_a_time(shape: torch.Size | tuple[int, ...], device: torch.device) -> int:
    """The batch size of scoring for items of this shape (without the batch dimension)."""
    return 16 if device.type == "cpu" and math.prod(shape) > LARGE else BATCHES[device.type]


def scores(network: nn.Module, split: Split, task: Task, part: range | None = None) -> dict[str, Tensor]:
    """For each metric of the task, by name, one value (n,) per item of `split` or of a part of it.

    Runs in fp32 on the network's device and leaves the network as it was; the values are on the CPU.
    """
    with inference(network):
        return _scores(network, split, task, part or range(len(split)))


def _scores(network: nn.Module, split: Split, task: Task, part: range) -> dict[str, Tensor]:
    device = device_of(network)
    found: dict[str, list[Tensor]] = {metric.name: [] for metric in task.metrics}
    batch = BATCHES[device.type]
    for start in range(part.start, part.stop, batch):
        chosen = slice(start, min(start + batch, part.stop))
        inputs, targets = split.inputs[chosen].to(device), split.targets[chosen].to(device)
        few = at_a_time(inputs.shape[1:], device)
        for own, wanted in zip(inputs.split(few), targets.split(few), strict=True):
            for name, values in task.scores(network(task.prepare(own)), wanted).items():
                found[name].append(values)
    return {name: torch.cat(values).cpu() for name, values in found.items()}


def total_score(network: nn.Module, split: Split, task: Task, part: range | None = None) -> float:
    """The sum of the first metric's values; for a proportion, the number of correct items."""
    values = scores(network, split, task, part)[task.metrics[0].name]
    return int(values.sum()) if values.dtype == torch.bool else float(values.double().sum())
