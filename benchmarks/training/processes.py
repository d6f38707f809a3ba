"""Data-parallel training in several processes, as `torchrun` starts them; a single process needs none of this.

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
    """Wait until all processes have come this far."""
    if count() > 1:
        distributed.barrier()


def share(size: int) -> slice:
    """Which of `size` items are this process's: every count()-th."""
    return slice(rank(), size, count())


def steps(items: int, batch: int) -> int:
    """The number of batches of an epoch. A last batch with fewer items than there are processes is left out.

    Raises MethodError if that would be every batch.
    """
    if min(items, batch) < count():
        msg = f"{min(items, batch)} items a step can't be split between {count()} processes: start fewer processes"
        raise MethodError(msg)
    whole, rest = divmod(items, batch)
    return whole + (rest >= count())


def micro() -> int | None:
    """How many items may go through the network at once (RATEBENCH_MICRO); None for no limit.

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
    """Into how many pieces a process cuts its share of a batch: gradients add up, BatchNorm sees one piece at a time."""
    most = micro()
    return 1 if most is None else math.ceil(items / most)


def broadcast(decide: Callable[[], T]) -> T:
    """What `decide` returns in the first process, in all of them."""
    if count() == 1:
        return decide()
    found = [decide() if rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return cast(T, found[0])


def data_parallel(network: nn.Module) -> nn.Module:
    """The network, its gradients averaged over all processes; it holds the same parameters, not copies."""
    if count() == 1:
        return network
    device = next(network.parameters()).device
    devices = [device] if device.type == "cuda" else None
    # Buffers are broadcast once an epoch, by `broadcast_buffers`.
    return nn.parallel.DistributedDataParallel(network, devices, broadcast_buffers=False)


def without_sync(network: nn.Module) -> AbstractContextManager[None]:
    """A context in which backward passes of a `data_parallel` network add up gradients without averaging them yet."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        found: AbstractContextManager[None] = network.no_sync()
        return found
    return contextlib.nullcontext()


def broadcast_buffers(network: nn.Module) -> None:
    """Give all processes the buffers of the first: those of BatchNorm come from a process's own items alone."""
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
    """Connect to the other processes if torchrun started this one; each takes a GPU of its own where there are any."""
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
