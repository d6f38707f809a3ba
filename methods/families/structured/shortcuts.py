"""Shortcuts without parameters: modules of a network that copy channels of their input, as networks describe them."""

from __future__ import annotations

from typing import Protocol, TypeGuard, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Shortcut(Protocol):
    """What a parameter-free module offers by which every output channel is one input channel, or zeros.

    It reads (N, inputs, H, W) and keeps every `stride`-th pixel of each row and column, from the first. A network offers
    these two names without importing this file: option A of the CIFAR ResNets is one (`benchmarks.networks.cifar_resnet`).
    """

    stride: int

    def channel_map(self, inputs: int) -> Tensor:
        """(outputs,) int64: for each output channel the input channel that it copies, or `inputs` for zeros."""
        ...


def is_shortcut(module: nn.Module) -> TypeGuard[Shortcut]:
    """Whether a module copies channels, says which, and has no parameters."""
    return isinstance(module, Shortcut) and next(module.parameters(), None) is None
