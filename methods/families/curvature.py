"""How much errors in weights matter, without labels: covariances of inputs, and sensitivities of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.seeds import generator
from benchmarks.training.layout import device_of
from methods.families import storage
from methods.interface import Task

Layer: TypeAlias = nn.Conv2d | nn.Linear

BATCH = 50  # items that pass at a time
POSITIONS = 64  # places of an item, drawn at random for each batch, whose inputs count for the covariance
MOST_VALUES = 2**23  # that are unfolded, or gradients by weights, at a time


@dataclass
class Inputs:
    """The inputs that meet a row of a weight: `mean` (groups, size) and `covariance` (groups, size, size), in fp64."""

    mean: Tensor
    covariance: Tensor


@dataclass
class Curvature(Inputs):
    """What calibration items tell about a layer: each of its groups has `rows` output channels and `size` inputs.

    `sensitivity` (groups, rows): by how much the squared outputs change for a unit of variance that is added to an output
    channel. It is the mean square of the gradient of a random projection of the network's outputs by a weight, for
    centred inputs, summed over the weights of the channel and divided by the sum of the variances, in fp64.
    """

    sensitivity: Tensor


def joint(known: Sequence[Inputs], centred: bool) -> Inputs:
    """The inputs of a weight that several layers share; without `centred`, the second moment is the mean of theirs."""

    def mean(values: list[Tensor]) -> Tensor:
        return torch.stack(values).mean(dim=0)

    means = mean([one.mean for one in known])
    covariance = mean([one.covariance for one in known])
    if not centred:
        covariance += mean([_square(one.mean) for one in known]) - _square(means)
    return Inputs(means, covariance)


def _square(mean: Tensor) -> Tensor:
    return mean[:, :, None] * mean[:, None, :]


def layers(network: nn.Module) -> dict[str, Layer]:
    """The layers that have a curvature, by path; raises MethodError if there are none."""
    found = {path: layer for path, layer in storage.layers(network).items() if isinstance(layer, Layer)}
    if not found:
        raise MethodError(
            "the network has no linear layer and no convolution in two dimensions: nothing can be rounded"
        )
    return found


def measured(network: nn.Module, task: Task, items: int, projections: int) -> Mapping[str, Curvature]:
    """By path of each layer. The network is in eval mode; the first `items` calibration items are used as they are.

    Projections are standard normal vectors from which their mean is subtracted; they are the same in every run. Without
    any, all outputs are equally sensitive.
    """
    device = device_of(network)
    found = {path: _Sums(layer, device) for path, layer in layers(network).items()}
    draws = generator("random projections")
    handles = [layer.register_forward_hook(found[path].see) for path, layer in layers(network).items()]
    try:
        for chunk in task.calibration(items).inputs.split(BATCH):
            with torch.set_grad_enabled(projections > 0):
                outputs = network(task.prepare(chunk.to(device))).flatten(1)
            for left in reversed(range(projections)):
                vector = torch.randn(outputs.shape, generator=draws)
                outputs.backward((vector - vector.mean(dim=1, keepdim=True)).to(device), retain_graph=left > 0)
    finally:
        for handle in handles:
            handle.remove()
        network.zero_grad(set_to_none=True)
    return {path: sums.curvature(items * projections) for path, sums in found.items()}


class _Sums:
    """Sums over items for one layer."""

    def __init__(self, layer: Layer, device: torch.device) -> None:
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        size = layer.weight[0].numel()
        self.inputs = torch.zeros(groups, size, dtype=torch.float64, device=device)
        self.products = torch.zeros(groups, size, size, dtype=torch.float64, device=device)
        self.squares = torch.zeros(groups, len(layer.weight) // groups, size, dtype=torch.float64, device=device)
        self.origin: Tensor | None = None  # the mean of the first batch, from which sums are taken
        self.draws = generator("positions")
        self.seen = 0

    def see(self, layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given = inputs[0].detach()
        for part in given.split(_items(layer, output)):
            rows = unfolded(layer, part)
            places = torch.randperm(rows.shape[2], generator=self.draws)[:POSITIONS]
            rows = rows[:, :, places.to(rows.device)].transpose(0, 1).flatten(1, 2)
            if self.origin is None:
                self.origin = rows.mean(dim=1, keepdim=True)
            rows = rows - self.origin
            self.inputs += rows.sum(dim=1, dtype=torch.float64)
            self.products += rows.mT @ rows
            self.seen += rows.shape[1]
        if output.requires_grad:
            output.register_hook(lambda gradient: self._add(layer, given, gradient))

    def _add(self, layer: Layer, given: Tensor, gradient: Tensor) -> None:
        """Add the squares of each item's gradient by the weights; inputs are centred on the mean of the items so far."""
        mean = self._mean().float()[None, :, None]
        groups, rows, _ = self.squares.shape
        for part, slopes in zip(*(t.split(_items(layer, gradient)) for t in (given, gradient)), strict=True):
            slopes = slopes.movedim(-1, 1) if isinstance(layer, nn.Linear) else slopes
            by_weight = slopes.reshape(len(part), groups, rows, -1) @ (unfolded(layer, part) - mean)
            self.squares += by_weight.square().sum(dim=0, dtype=torch.float64)

    def _mean(self) -> Tensor:
        found = self.inputs / max(self.seen, 1)
        return found if self.origin is None else found + self.origin[:, 0]

    def curvature(self, gradients: int) -> Curvature:
        shift, products = self.inputs / max(self.seen, 1), self.products / max(self.seen, 1)
        covariance = products - shift[:, :, None] * shift[:, None, :]
        variances = covariance.diagonal(dim1=-2, dim2=-1).clamp_(min=0)
        if not gradients:
            return Curvature(self._mean(), covariance, torch.ones_like(self.squares[:, :, 0]))
        tiny = torch.finfo(torch.float32).tiny
        sensitivity = self.squares.sum(dim=2) / variances.sum(dim=1, keepdim=True).clamp_min(tiny) / gradients
        return Curvature(self._mean(), covariance, sensitivity)


def _items(layer: Layer, output: Tensor) -> int:
    """How many items are unfolded, or have a gradient by the weights, at a time."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    values = output[0].numel() // len(layer.weight) * layer.weight[0].numel() * groups
    return max(1, MOST_VALUES // max(values, layer.weight.numel()))


def unfolded(layer: Layer, inputs: Tensor) -> Tensor:
    """(items, groups, places, size): the inputs that meet a row of the layer's weights."""
    if isinstance(layer, nn.Linear):
        return inputs.reshape(len(inputs), 1, -1, inputs.shape[-1])
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    columns = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)  # type: ignore[arg-type]
    return columns.reshape(len(inputs), layer.groups, -1, columns.shape[2]).mT
