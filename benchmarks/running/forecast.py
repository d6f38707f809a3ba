"""What a cell will cost here, before it runs: speeds measured on this machine, habits of the method from its records.

An estimate is no promise: compression alone is taken to grow with the number of weights, from where it was measured.
"""

from __future__ import annotations

import io
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks import networks, record, storage, tasks
from benchmarks.data.images import Pictures, centred
from benchmarks.evaluation import measure
from benchmarks.evaluation.scoring import at_a_time
from benchmarks.fingerprint import json_hash
from benchmarks.record import Record
from benchmarks.running import environment, plan
from benchmarks.running.plan import Cell
from benchmarks.training.loop import bf16_is_fast
from methods.interface import BudgetName

TRAINING_BATCH = 32
NEAREST: dict[BudgetName, tuple[BudgetName, ...]] = {
    "post-training": ("post-training", "short", "paper"),
    "short": ("short", "paper", "post-training"),
    "paper": ("paper", "short", "post-training"),
}
GRIDS = ("rates", "points", "sparsities", "targets", "steps", "qps")  # settings that list operating points
PREFIXES: dict[BudgetName, tuple[str, ...]] = {"post-training": (), "short": ("short_",), "paper": ("paper_", "short_")}


@dataclass(frozen=True)
class Speed:
    """Images per second of one network on this machine, and its size."""

    forward: float
    training: float
    reference_bytes: int


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of artefacts; `points` is how many operating points they are for."""

    points: int
    training_s: float
    scoring_s: float
    compression_s: float
    disk_bytes: float

    @property
    def seconds(self) -> float:
        return self.training_s + self.scoring_s + self.compression_s


def cost(cell: Cell, records: Iterable[Record], device: torch.device) -> Cost | None:
    """What one cell takes; None where no record of its method says how many points it has and how small they are."""
    own = [r for r in records if r.method == cell.method]
    known = _habits(cell, own, cell.budget.name)
    if not known:
        return None
    here, points = speed(cell.task, cell.network, device), _points(cell, known)
    training_images, test_images = tasks.get(cell.task).IMAGES
    untrained = _habits(cell, own, "post-training")  # whose time is all the method's own, its search included
    each = statistics.median(_compression(r, device) * here.reference_bytes / r.rate.reference_bytes for r in untrained)
    return Cost(
        points=points,
        training_s=_epochs(cell, points) * training_images / here.training,
        scoring_s=points * test_images / here.forward,
        compression_s=points * each,
        disk_bytes=points * statistics.fmean(here.reference_bytes / r.rate.ratio for r in known),
    )


def _habits(cell: Cell, records: list[Record], wanted: BudgetName) -> list[Record]:
    """Records at the budget that is nearest to the wanted one, of the cell's configuration if there are any."""
    for budget in NEAREST[wanted]:
        if found := [r for r in records if r.budget == budget]:
            return [r for r in found if r.config_hash == cell.config_hash] or found
    return []


def _points(cell: Cell, known: list[Record]) -> int:
    """Operating points: what the configuration lists for the budget, else as many as the recorded curves have."""
    prefixes = PREFIXES[cell.budget.name]
    with_training = [*(prefix + grid for prefix in prefixes for grid in GRIDS), "rounds"] if prefixes else []
    for name in ("ratios", *with_training, *GRIDS):
        if isinstance(listed := cell.config.get(name), list) and listed:
            return len(listed)
    curves = {(r.suite, r.network, r.config_hash, r.seed) for r in known}
    return round(len(known) / len(curves))


def _epochs(cell: Cell, points: int) -> float:
    """Epochs of training over a curve; with the paper's own schedule, each point has what its configuration says."""
    if cell.budget.epochs is not None:
        return cell.budget.epochs
    each = next((float(v) for name, v in cell.config.items() if name.endswith("epochs")), 0.0)
    return points * (each + len(cell.config.get("warmup", ())))


def _compression(known: Record, device: torch.device) -> float:
    """Seconds of a recorded point that went into neither scoring nor training."""
    if known.budget != "post-training":
        return known.speed.encode_s
    scoring = known.quality.total / speed(known.task, known.network, device).forward
    return max(known.speed.encode_s, known.wall_s - scoring)


def speed(task: str, network: str, device: torch.device) -> Speed:
    """Measured once on each machine: a few batches of random images through random weights."""
    known = tasks.load(task, network)
    key = json_hash([environment.gpu() or environment.cpu(), torch.__version__, torch.get_num_threads(), task, network])
    place = storage.cache_folder() / "speeds" / f"{key[:16]}.json"
    if not place.exists():
        storage.write(place, json.dumps(_measured(known.architecture, dict(known.arguments), task, device)).encode())
    return Speed(**json.loads(place.read_text(encoding="ascii")))


def _measured(architecture: str, arguments: dict[str, object], task: str, device: torch.device) -> dict[str, float]:
    network = networks.build(architecture, arguments).to(device, memory_format=torch.channels_last)  # type: ignore[arg-type]
    shape = tasks.get(task).SHAPE
    found = {"forward": _forward(network.eval(), shape, device), "training": _training(network.train(), shape, device)}
    if shape[-1] > 64:  # images on disk: no faster than they are decoded
        decoded = _decoding(shape[-1])
        found = {name: min(value, decoded) for name, value in found.items()}
    return {**found, "reference_bytes": measure.reference_bytes(network)}


def _rate(step: Callable[[], object], images: int, device: torch.device) -> float:
    """Images per second of the median of some steps, after one that does not count."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < 1.0:
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return images / statistics.median(times[1:])


def _forward(network: nn.Module, shape: tuple[int, ...], device: torch.device) -> float:
    images = torch.rand(at_a_time(shape, device), *shape, device=device).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def step() -> None:
        network(images)

    return _rate(step, len(images), device)


def _training(network: nn.Module, shape: tuple[int, ...], device: torch.device) -> float:
    images = torch.rand(TRAINING_BATCH, *shape, device=device).contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), 0.0)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
            outputs = network(images)
        outputs.float().logsumexp(1).mean().backward()
        optimiser.step()

    return _rate(step, len(images), device)


def _decoding(side: int) -> float:
    """Decoded and resized pictures per second, of the size that is common in ILSVRC2012 (500 × 375)."""
    buffer = io.BytesIO()
    smooth = np.random.default_rng(0).integers(256, size=(24, 32, 3), dtype=np.uint8)
    Image.fromarray(smooth).resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    place = storage.cache_folder() / "speeds" / "picture.jpg"
    storage.write(place, buffer.getvalue())
    pictures = Pictures([place] * 64, centred(side, math.ceil(side / 0.875)))
    return _rate(lambda: pictures[:64], 64, torch.device("cpu"))


def records_at_hand(results: Path) -> list[Record]:
    """The records of all suites."""
    return [r for suite in plan.names() if (results / suite).is_dir() for r in record.load(results, suite)]
