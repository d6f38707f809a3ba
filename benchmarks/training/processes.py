"""Data-parallel training in several processes that `torchrun` starts; everything is a no-op in a single process.

Every process runs the same method with the same seeds. Only batches are split between them, and gradients are averaged.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from benchmarks.errors import MethodError, RateBenchError

T = TypeVar("T")
MICRO = "RATEBENCH_MICRO"


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait() -> None:
    """Wait for all processes (barrier)."""
    if count() > 1:
        distributed.barrier()


def share(size: int) -> slice:
    """The items, out of `size`, of this process: every count()-th."""
    return slice(rank(), size, count())


def steps(items: int, batch: int) -> int:
    """The number of batches of an epoch. A last batch with fewer items than there are processes is left out.

    Raises MethodError if that would be every batch.
    """
    if min(items, batch) < count():
        msg = f"{min(items, batch)} items per step can't be split between {count()} processes: start fewer processes"
        raise MethodError(msg)
    whole, rest = divmod(items, batch)
    return whole + (rest >= count())


def micro() -> int | None:
    """The largest micro-batch (RATEBENCH_MICRO); None for no limit.

    Raises RateBenchError for a setting that is not a whole number above 0.
    """
    wanted = os.environ.get(MICRO, "")
    if not wanted:
        return None
    if not wanted.isdecimal() or int(wanted) < 1:
        msg = f"{MICRO} is {wanted!r}: set it to how many items may go through the network at once, or unset it"
        raise RateBenchError(msg)
    return int(wanted)


def pieces(items: int) -> int:
    """The number of micro-batches per batch of a process: gradients accumulate, BatchNorm sees one micro-batch at a time."""
    most = micro()
    return 1 if most is None else math.ceil(items / most)


def broadcast(decide: Callable[[], T]) -> T:
    """Broadcast what `decide` returns in the first process to all processes."""
    if count() == 1:
        return decide()
    found = [decide() if rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return cast(T, found[0])


def data_parallel(network: nn.Module) -> nn.Module:
    """The network with gradients averaged over all processes; it has the same parameters, not copies."""
    if count() == 1:
        return network
    device = next(network.parameters()).device
    devices = [device] if device.type == "cuda" else None
    # Buffers are broadcast once an epoch, by `broadcast_buffers`.
    return nn.parallel.DistributedDataParallel(network, devices, broadcast_buffers=False)


def without_sync(network: nn.Module) -> AbstractContextManager[None]:
    """A context in which backward passes of a `data_parallel` network accumulate gradients without averaging them."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        found: AbstractContextManager[None] = network.no_sync()
        return found
    return contextlib.nullcontext()


def broadcast_buffers(network: nn.Module) -> None:
    """Broadcast the buffers of the first process: each process updates BatchNorm's buffers only from its own items."""
    if count() > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)


def total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if count() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value


def begin() -> None:
    """Connect to the other processes if torchrun started this one; each uses its own GPU if there are any."""
    if not distributed.is_torchelastic_launched():
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")


def end() -> None:
    """Disconnect from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
