"""Rate-aware rounding of a network's weights with error feedback, without training or labels."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.bitstream.codecs import uniform
from benchmarks.training.batchnorm import conv_bn_pairs
from methods.families import curvature, feedback, grid
from methods.families.curvature import Inputs
from methods.families.feedback import Spread
from methods.families.storage import Arrays
from methods.interface import Part, Task

RATE = 0.04  # of a bit, in squared steps
SWEEPS = 2  # over the columns, after error feedback
DAMPING = 0.02  # share of the mean variance that is added to each
LEAST_IMPORTANT = 0.01  # of a weight, where its rate is weighed against its error


@dataclass(frozen=True)
class Weight:
    """A weight as matrices (groups, rows, size), and what is known about the inputs of the layers that have it.

    `kernel` is the number of places of the kernel. `biases` has, for each layer whose bias has to answer the mean change of
    its outputs, the mean (groups, size) of its inputs.
    """

    matrices: Tensor
    kernel: int
    spread: Spread
    biases: Mapping[str, Tensor]


def weights(
    network: nn.Module,
    known: Mapping[str, Inputs],
    damping: float = DAMPING,
    answered: bool = True,
    corrected: bool = True,
) -> Iterator[tuple[list[str], Weight]]:
    """Each weight that a layer of `known` has, one at a time, and its names: more than one if several layers share it.

    Without `answered`, columns do not answer the errors of others. `corrected`: BatchNorm's statistics will be corrected.
    """
    pairs, layers = conv_bn_pairs(unjoined(network)), dict(network.named_modules())
    uses: dict[nn.Parameter, list[_Use]] = {}
    for use in _uses(network):
        uses.setdefault(network.get_parameter(use.name), []).append(use)
    for weight, readers in uses.items():
        biased = [
            use.path for use in readers if use.path not in pairs and getattr(layers[use.path], "bias", None) is not None
        ]
        centred = all(corrected if use.path in pairs else use.path in biased for use in readers)
        own = curvature.joint([use.of(known[use.path]) for use in readers], centred)
        matrices = weight.detach().to(own.mean).reshape(own.mean.shape[0], -1, own.mean.shape[1])
        spread = feedback.spread(own, damping, answered, centred)
        means = {path: known[path].mean for path in biased}
        yield [use.name for use in readers], Weight(matrices, weight[0, 0].numel(), spread, means)


class _Use(NamedTuple):
    """A weight by name, the layer that reads it, and the layer's inputs (`columns`) that it meets."""

    name: str
    path: str
    columns: slice = slice(None)

    def of(self, known: Inputs) -> Inputs:
        return Inputs(known.mean[:, self.columns], known.covariance[:, self.columns, self.columns])


def _uses(network: nn.Module) -> Iterator[_Use]:
    for path, layer in network.named_modules():
        if isinstance(layer, Joined):
            yield from (_Use(f"{path}.{name}", path, columns) for name, columns in layer.columns().items())
        elif isinstance(layer, curvature.Layer) and layer._parameters.get("weight") is not None:
            yield _Use(f"{path}.weight", path)


@runtime_checkable
class Joined(Protocol):
    """A kind of module that computes what a usual convolution does, with a kernel of several tensors."""

    def usual(self) -> nn.Conv2d: ...
    def columns(self) -> Mapping[str, slice]: ...


def unjoined(network: nn.Module) -> nn.Module:
    """The network, or a copy in which kernels of several tensors are those of usual convolutions."""
    joined = {path: layer for path, layer in network.named_modules() if isinstance(layer, Joined)}
    twin = copy.deepcopy(network) if joined else network
    for path, layer in joined.items():
        twin.set_submodule(path, layer.usual())
    return twin


def rounded(
    weight: Weight, step: Tensor | float, rate: float = RATE, sweeps: int = SWEEPS, importance: Tensor | None = None
) -> Tensor:
    """Integers (groups, rows, size) with little error and little rate: error feedback, then sweeps over single integers.

    The cost of a unit of magnitude follows from the integers before each pass. `importance` (groups, rows, size) is what
    an error of one step costs (None: that of the inputs).
    """
    scaled = weight.matrices / step
    importance = (weight.spread.importance if importance is None else importance).clamp_min(LEAST_IMPORTANT)

    def costs(codes: Tensor) -> Tensor | None:
        return rate * feedback.bits_per_unit(codes, weight.kernel) / importance if rate else None

    codes = feedback.rounded(scaled, weight.spread)
    if rate:
        codes = feedback.rounded(scaled, weight.spread, costs(codes))
    for _ in range(sweeps):
        codes = feedback.refined(scaled, codes, weight.spread, costs(codes))
    return codes


@torch.no_grad()
def put(network: nn.Module, name: str, weight: Weight, values: Tensor) -> None:
    """Set a weight to `values` (groups, rows, size), and let biases answer the mean change of the outputs."""
    network.get_parameter(name).copy_(values.reshape(network.get_parameter(name).shape))
    for path, mean in weight.biases.items():
        bias = network.get_parameter(f"{path}.bias")
        bias += ((weight.matrices - values) @ mean[:, :, None]).flatten().to(bias)


def integers(network: nn.Module, name: str, codes: Tensor) -> npt.NDArray[np.int64]:
    """Codes (groups, rows, size) as integers that are shaped like the tensor."""
    return codes.reshape(network.get_parameter(name).shape).cpu().numpy().astype(np.int64)


@torch.no_grad()
def part(network: nn.Module, task: Task, items: int, found: Arrays, bits: int, device: torch.device) -> Part:
    """A part with each tensor of `found` in steps of its own (`grid.step`), entropy coded; also rounds the network in place.

    `found` are tensors of the network by name. Those that are no weight of a linear layer or a convolution in two
    dimensions become the nearest values. The first `items` calibration items tell about inputs; integers may go beyond the
    range of the grid.
    """
    known = curvature.measured(unjoined(copy.deepcopy(network)).to(device), task, items, 0)
    steps = {name: grid.step(values, bits) for name, values in found.items()}
    codes = {name: uniform.quantise(values, steps[name])[0] for name, values in found.items()}
    for names, weight in weights(network, known):
        for name in set(names) & codes.keys():
            step = float(steps[name])
            own = rounded(weight, step)
            put(network, name, weight, own * step)
            codes[name] = integers(network, name, own)
    for name, values in found.items():
        values[...] = uniform.dequantise(codes[name], steps[name])
    return uniform.part(list(found), list(codes.values()), list(steps.values()), "weights")
