"""The placement of a network's tensors: their device, and the memory layout of convolution kernels."""

from __future__ import annotations

import itertools

import torch
from torch import nn


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's parameters or, if there are none, of its buffers; the CPU if there are no tensors."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def channels_last(network: nn.Module) -> None:
    """Lay out all 4-D parameters and buffers in `torch.channels_last`, in place; values and other tensors do not change.

    `network.to(memory_format=torch.channels_last)` does the same but raises RuntimeError for 5-D tensors.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
