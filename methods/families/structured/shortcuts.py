"""Shortcuts without parameters: modules that copy channels of their input."""

from __future__ import annotations

from typing import Protocol, TypeGuard, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Shortcut(Protocol):
    """A parameter-free module whose output channels are copies of input channels, or zeros.

    It reads (N, inputs, H, W) and keeps every `stride`-th pixel of each row and column, from the first. Networks define
    both names without importing this file, e.g. option A of the CIFAR ResNets (`benchmarks.networks.cifar_resnet`).
    """

    stride: int

    def channel_map(self, inputs: int) -> Tensor:
        """(outputs,) int64: for each output channel the input channel that it copies, or `inputs` for zeros."""
        ...


def is_shortcut(module: nn.Module) -> TypeGuard[Shortcut]:
    """Whether a module is a `Shortcut` without parameters."""
    return isinstance(module, Shortcut) and next(module.parameters(), None) is None
