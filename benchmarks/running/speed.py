"""The speed of a network on this machine, measured once with random inputs and weights."""

from __future__ import annotations

import io
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import networks, storage, tasks
from benchmarks.evaluation.scoring import at_a_time
from benchmarks.fingerprint import here, json_hash, sources
from benchmarks.running import environment
from benchmarks.training.layout import channels_last
from benchmarks.training.loop import bf16_is_fast

TRAINING_BATCH = 32


@dataclass(frozen=True)
class Speed:
    """Items per second of one network on this machine."""

    forward: float
    training: float


def speed(task: str, network: str, device: torch.device) -> Speed:
    """The speed, measured once per machine and stored in the cache folder; a damaged file is measured again."""
    key = json_hash([environment.gpu() or environment.cpu(), torch.__version__, torch.get_num_threads(), task, network])
    place = storage.cache_folder() / "speeds" / f"{key[:16]}.json"
    known = storage.unseal(storage.read(place)) if place.exists() else None
    if known is None:
        known = json.dumps(_measured(task, network, device)).encode()
        storage.write(place, storage.seal(known))
    return Speed(**json.loads(known))


def _measured(task: str, name: str, device: torch.device) -> dict[str, float]:
    known, example = tasks.load(task, name), tasks.get(task).test(name).example.to(device)
    network = networks.build(known.architecture, known.arguments).to(device)
    channels_last(network)
    training_items, test_items = tasks.get(task).ITEMS  # a task may have fewer than a batch: of pictures, there is one
    few = min(at_a_time(example.shape[1:], device), test_items)
    many = min(TRAINING_BATCH, training_items) or TRAINING_BATCH
    found = {
        "forward": _forward(network.eval(), _batch(example, few)),
        "training": _training(network.train(), _batch(example, many), device),
    }
    if decodes(task):
        decoded = _decoding(example.shape[-1])
        found = {name: min(value, decoded) for name, value in found.items()}
    return found


def decodes(task: str) -> bool:
    """Whether the code of a task decodes images on disk; decoding then also limits its speed."""
    return here().module("benchmarks.data.images") in sources(f"benchmarks.tasks.{task}")


def _rate(step: Callable[[], object], items: int, device: torch.device) -> float:
    """Items per second from the median time of some steps, after one warm-up step."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < 1.0:
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return items / statistics.median(times[1:])


def _batch(example: Tensor, size: int) -> Tensor:
    batch = torch.rand(size, *example.shape[1:], device=example.device)
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def _forward(network: nn.Module, inputs: Tensor) -> float:
    @torch.inference_mode()
    def step() -> None:
        network(inputs)

    return _rate(step, len(inputs), inputs.device)


def _training(network: nn.Module, inputs: Tensor, device: torch.device) -> float:
    optimiser = torch.optim.SGD(network.parameters(), 0.0)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
            outputs = network(inputs)
        outputs.float().square().mean().backward()
        optimiser.step()

    return _rate(step, len(inputs), device)


def _decoding(side: int) -> float:
    """Decoded and resized images per second, for the typical size in ILSVRC2012 (500 × 375)."""
    from benchmarks.data.images import Pictures, centred  # imports torchvision: seconds that other tasks do not need

    buffer = io.BytesIO()
    smooth = np.random.default_rng(0).integers(256, size=(24, 32, 3), dtype=np.uint8)
    Image.fromarray(smooth).resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    place = storage.cache_folder() / "speeds" / "picture.jpg"
    storage.write(place, buffer.getvalue())
    pictures = Pictures([place] * 64, centred(side, math.ceil(side / 0.875)))
    return _rate(lambda: pictures[:64], 64, torch.device("cpu"))
