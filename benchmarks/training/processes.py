"""Several processes that train one network, as `torchrun` starts them; one process alone needs none of this.

Every process runs the same method with the same seeds; only batches are shared out, and gradients added up.
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
    """Until all processes are here."""
    if count() > 1:
        distributed.barrier()


def share(size: int) -> slice:
    """Which of `size` items are this process's: every count()-th."""
    return slice(rank(), size, count())


def steps(images: int, batch: int) -> int:
    """How many batches an epoch has; a last one that has not an image for every process is left out.

    Raises MethodError where no batch has.
    """
    if min(images, batch) < count():
        msg = f"{min(images, batch)} images a step can't be shared out to {count()} processes: start fewer"
        raise MethodError(msg)
    whole, rest = divmod(images, batch)
    return whole + (rest >= count())


def micro() -> int | None:
    """How many images may go through the network at once (RATEBENCH_MICRO); None for as many as there are.

    Raises RateBenchError for a setting that is no number above 0.
    """
    wanted = os.environ.get(MICRO, "")
    if not wanted:
        return None
    if not wanted.isdecimal() or int(wanted) < 1:
        msg = f"{MICRO} is {wanted!r}: set it to how many images may go through the network at once, or unset it"
        raise RateBenchError(msg)
    return int(wanted)


def pieces(images: int) -> int:
    """Into how many pieces a process cuts its share of a batch: gradients add up, BatchNorm sees one piece at a time."""
    most = micro()
    return 1 if most is None else math.ceil(images / most)


def broadcast(decide: Callable[[], T]) -> T:
    """What `decide` returns in the first process, in all of them."""
    if count() == 1:
        return decide()
    found = [decide() if rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return cast(T, found[0])


def joined(network: nn.Module) -> nn.Module:
    """The network with its gradients averaged over all processes; parameters are the very same ones."""
    if count() == 1:
        return network
    device = next(network.parameters()).device
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(
        network, devices, broadcast_buffers=False
    )  # `broadcast_buffers` sees to them


def alone(network: nn.Module) -> AbstractContextManager[None]:
    """While gradients of several passes pile up: don't exchange them yet."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        found: AbstractContextManager[None] = network.no_sync()
        return found
    return contextlib.nullcontext()


def broadcast_buffers(network: nn.Module) -> None:
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


def begin() -> None:
    """Join the other processes if torchrun started this one, each with a GPU of its own where there are any."""
    if not distributed.is_torchelastic_launched():
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")


def end() -> None:
    """Leave the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
