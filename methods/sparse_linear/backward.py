"""A multilayer perceptron pruned from its last layer back: neurons that no later one reads are dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

# A layer and the neurons (out,) that are read, as a mask -> their new weights (n, in) and biases (n,).
Rule: TypeAlias = "Callable[[Layer, Tensor], tuple[Tensor, Tensor]]"


@dataclass(frozen=True, eq=False)
class Layer:
    """`weight` (out, in) and `bias` (out,) of a linear layer, and `mean` (in,) and covariance `gram` (in, in) of its inputs.

    All of it is in fp64 and of the uncompressed network.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    gram: Tensor


def perceptron(network: nn.Module) -> list[nn.Linear] | None:
    """The linear layers of a multilayer perceptron with ReLU, in order; None for any other network."""
    if not isinstance(network, nn.Sequential):
        return None
    steps = [step for step in network if not isinstance(step, nn.Flatten)]
    linear = [step for step in steps[::2] if isinstance(step, nn.Linear) and step.bias is not None]
    between = [step for step in steps[1::2] if isinstance(step, nn.ReLU)]
    return linear if len(linear) == len(between) + 1 and len(linear) + len(between) == len(steps) else None


def observed(linear: Sequence[nn.Linear], inputs: Tensor) -> Iterator[Layer]:
    """The layers of a perceptron, in order, with what the inputs (n, …) of the network become on their way."""
    values = inputs.flatten(1).double()
    for one in linear:
        weight, bias, mean = one.weight.double(), one.bias.double(), values.mean(0)
        centred = values - mean
        yield Layer(weight, bias, mean, centred.T @ centred / len(values))
        values = torch.relu(values @ weight.T + bias)


def pruned(layers: Sequence[Layer], rule: Rule) -> list[tuple[Tensor, Tensor]]:
    """New weights and biases of all layers: the rule's, and zeros for neurons that nothing reads."""
    found: list[tuple[Tensor, Tensor]] = []
    read = torch.ones(len(layers[-1].bias), dtype=torch.bool)
    for layer in reversed(layers):
        weight, bias = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
        weight[read], bias[read] = rule(layer, read)
        found.insert(0, (weight, bias))
        read = weight.any(0)
    return found
