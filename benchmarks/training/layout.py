"""The memory layout of convolution kernels during training."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(network: nn.Module) -> None:
    """Lay out all 4-D parameters and buffers in `torch.channels_last`, in place; values and other tensors do not change.

    `network.to(memory_format=torch.channels_last)` does the same but raises RuntimeError for 5-D tensors.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
