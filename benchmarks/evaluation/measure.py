"""Measurements of a network besides its quality: sizes, multiply-accumulates and latency."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

from benchmarks.bitstream import blueprint
from benchmarks.evaluation import work
from benchmarks.evaluation.inference import inference


def bits_per_value(file_bytes: int, values: int | None) -> float | None:
    """Bits of a file / number of values of the reference network; None without a reference network."""
    return None if values is None else 8 * file_bytes / values


def elements(network: nn.Module) -> tuple[int, int]:
    """(all, non-zero) values of the tensors that a file must contain: parameters and BatchNorm statistics."""
    tensors = [t for t in blueprint.state(network).values() if t.is_floating_point()]
    return blueprint.values(network), int(sum(torch.count_nonzero(t) for t in tensors))


def macs(network: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and matrix products for one item, zeros included."""
    return work.followed(network, example).macs


def latency_ms(network: nn.Module, example: Tensor, batch: int, seconds: float = 0.2) -> float:
    """Median milliseconds of a forward pass at a batch size, after two warm-up passes, over about `seconds`."""
    inputs = example[:1].repeat(batch, *[1] * (example.ndim - 1))
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    cuda = inputs.device.type == "cuda"
    times: list[float] = []
    with inference(network):
        for _ in range(2):
            network(inputs)
        begin = time.perf_counter()
        while len(times) < 5 or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            network(inputs)
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3
