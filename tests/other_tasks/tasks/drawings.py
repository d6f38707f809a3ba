"""Image coding: a file is a network that draws one picture of 24 × 24 pixels. There is no reference network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.errors import TaskError
from benchmarks.evaluation import scoring
from methods.interface import Augmentation, Json, Metric, Split

SIDE = 24
NETWORKS = {"disc": 1, "waves": 2}
ITEMS = (1, 1)
PSNR = Metric("psnr", "dB", "mean", "Peak signal-to-noise ratio of the decoded pictures")
METRICS, NONE = (PSNR,), Augmentation()


def picture(name: str) -> Split:
    """All coordinates (1, P, 2) in [−1, 1], and the colours (1, P, 3) as whole numbers from 0 to 255."""
    line = torch.linspace(-1, 1, SIDE)
    x, y = torch.meshgrid(line, line, indexing="xy")
    shapes = {"disc": (x.square() + y.square()).sqrt(), "waves": (5 * x).sin() * (3 * y).cos() / 2 + 0.5}
    grey = shapes[name].clamp(0, 1)
    colours = torch.stack([grey, 1 - grey, grey.square()], -1)
    return Split(torch.stack([x, y], -1).view(1, -1, 2), (255 * colours).round().to(torch.uint8).view(1, -1, 3))


@dataclass(frozen=True, eq=False)
class Drawing:
    """Satisfies `methods.interface.Task`."""

    network: str
    name: str = "drawings"
    kind: str = "image coding"
    architecture: str = ""
    arguments: Mapping[str, Json] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = METRICS
    augmentation: Augmentation = NONE
    reference_values: None = None
    uncompressed_bytes: int = 3 * SIDE * SIDE

    @property
    def train(self) -> Split:
        return picture(self.network)

    @property
    def validation(self) -> Split:
        return self.train

    def reference(self) -> nn.Module:
        raise TaskError("drawings have no reference network")

    def calibration(self, n: int) -> Split:
        return self.train

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets / 255)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        decoded = (255 * outputs.clamp(0, 1)).round()
        error = (decoded - targets).square().flatten(1).mean(1)
        return {"psnr": 20 * math.log10(255) - 10 * error.log10()}


@dataclass(frozen=True)
class Test:
    """Satisfies `benchmarks.tasks.Test`."""

    task: Drawing
    items: int = ITEMS[1]

    @property
    def example(self) -> Tensor:
        return picture(self.task.network).inputs

    def scores(self, network: nn.Module, part: range) -> dict[str, Tensor]:
        return scoring.scores(network, picture(self.task.network), self.task, part)


def task(network: str) -> Drawing:
    return Drawing(network)


def test(network: str) -> Test:
    return Test(task(network))


def files(network: str | None = None) -> list[object]:
    return []


def provenance(network: str) -> dict[str, str]:
    return {"data": "drawn by formulas"}
