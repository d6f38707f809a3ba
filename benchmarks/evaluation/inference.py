"""Forward passes that leave a network as it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from benchmarks.training.layout import channels_last, device_of


@contextmanager
def inference(network: nn.Module) -> Iterator[None]:
    """A context in which a network is in eval mode, with kernels in channels_last, in fp32 and without gradients.

    Afterwards every module is in the mode in which it was, and every tensor has the storage that it had, so that the network
    can be trained: tensors that are made in inference mode could not.
    """
    modes = [(module, module.training) for module in network.modules()]
    storages = [(tensor, tensor.data) for tensor in itertools.chain(network.parameters(), network.buffers())]
    device = device_of(network).type
    try:
        channels_last(network.eval())
        with torch.inference_mode(), torch.autocast("cpu" if device == "meta" else device, enabled=False):
            yield
    finally:
        for tensor, storage in storages:
            tensor.data = storage
        for module, training in modes:
            module.training = training
