"""What is measured of a network besides its accuracy: sizes, multiply-accumulates, latency, and the interval of a count."""

from __future__ import annotations

import math
import statistics
import time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bitstream import blueprint

Z95 = 1.959963984540054


def wilson(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, JASA 1927): bounds in [0, 1]."""
    p, z2 = correct / total, Z95 * Z95
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    return max(0.0, centre - half), min(1.0, centre + half)


def elements(network: nn.Module) -> tuple[int, int]:
    """(all, non-zero) values of the tensors that a file has to hold: parameters and BatchNorm statistics."""
    tensors = [t for t in blueprint.state(network).values() if t.is_floating_point()]
    return sum(t.numel() for t in tensors), int(sum(torch.count_nonzero(t) for t in tensors))


def reference_bytes(network: nn.Module) -> int:
    """Bytes of a network's floating-point tensors in fp32: the numerator of every ratio."""
    return 4 * elements(network)[0]


@torch.inference_mode()
def macs(network: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image, zeros included."""
    with FlopCounterMode(display=False) as counter:
        network(example[:1])
    return int(counter.get_total_flops()) // 2


@torch.inference_mode()
def largest_activation(network: nn.Module, example: Tensor) -> int:
    """Values of the largest output of a module for one image."""
    sizes = [0]

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    network(example[:1])
    for hook in hooks:
        hook.remove()
    return max(sizes)


@torch.inference_mode()
def latency_ms(network: nn.Module, example: Tensor, batch: int, seconds: float = 0.2) -> float:
    """Median milliseconds of a forward pass at a batch size, after two warm-up passes, over about `seconds`."""
    images = example[:1].repeat(batch, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    cuda = images.device.type == "cuda"
    times: list[float] = []
    for _ in range(2):
        network(images)
    begin = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        network(images)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3
