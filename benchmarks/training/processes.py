"""Several processes that train one network, as `torchrun` starts them; one process alone needs none of this.

Every process runs the same method with the same seeds; only batches are shared out, and gradients added up.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor, distributed, nn


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait() -> None:
    """Until all processes are here."""
    if count() > 1:
        distributed.barrier()


def share(size: int) -> slice:
    """Which of `size` items are this process's: every count()-th."""
    return slice(rank(), size, count())


def joined(network: nn.Module) -> nn.Module:
    """The network with its gradients averaged over all processes; parameters are the very same ones."""
    if count() == 1:
        return network
    device = next(network.parameters()).device
    return nn.parallel.DistributedDataParallel(network, [device] if device.type == "cuda" else None)


def alone(network: nn.Module) -> AbstractContextManager[None]:
    """While gradients of several passes pile up: don't exchange them yet."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        found: AbstractContextManager[None] = network.no_sync()
        return found
    return contextlib.nullcontext()


def agree(network: nn.Module) -> None:
    """Give all processes the first one's buffers: each has seen only its own share of the batches (BatchNorm)."""
    if count() > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)


def total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if count() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value


def begin() -> torch.device | None:
    """Join the other processes if torchrun started this one, and return this one's device; None for a process alone."""
    if not distributed.is_torchelastic_launched():
        return None
    cuda = torch.cuda.is_available()
    distributed.init_process_group("nccl" if cuda else "gloo")
    if not cuda:
        return torch.device("cpu")
    device = torch.device("cuda", rank() % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
