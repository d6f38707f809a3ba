"""Image coding: three grey images of 8 × 8 pixels, scored by PSNR; there is no reference network."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.data.download import RemoteFile
from benchmarks.errors import TaskError
from methods.interface import Augmentation, Json, Metric, Split

METRICS = (Metric("PSNR", "dB", "mean", "Peak signal-to-noise ratio of the decoded image"),)
ITEMS = (0, 3)
NETWORKS = {"digits": None}


@functools.cache
def _images() -> Split:
    """Coordinates (3, 64, 3) (which image, row, column, each from −1 to 1) and grey values (3, 64) from 0 to 1."""
    grey = torch.from_numpy(load_digits().images[:3] / 16).float().flatten(1)
    axis = torch.linspace(-1, 1, 8)
    places = torch.cartesian_prod(torch.linspace(-1, 1, 3), axis, axis).view(3, 64, 3)
    return Split(places, grey)


@dataclass(frozen=True, eq=False)
class ImageCoding:
    network: str
    name: str = "pictures"
    kind: str = "image coding"
    architecture: str = ""
    metrics: tuple[Metric, ...] = METRICS
    augmentation: Augmentation = field(default_factory=Augmentation)
    uncompressed_bytes: int = 3 * 64
    reference_values: int | None = None

    @property
    def arguments(self) -> Mapping[str, Json]:
        return {}

    @property
    def train(self) -> Split:
        return _images()

    @property
    def validation(self) -> Split:
        return _images()

    def reference(self) -> nn.Module:
        raise TaskError("images have no reference network")

    def calibration(self, n: int) -> Split:
        return _images()

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[..., 0] - targets).square().mean()

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        error = (outputs[..., 0].clamp(0, 1) - targets).square().mean(1)
        return {METRICS[0].name: -10 * error.log10()}


@dataclass(frozen=True)
class ImageTest:
    task: ImageCoding
    items: int = ITEMS[1]

    @property
    def example(self) -> Tensor:
        return _images().inputs[:1]

    def scores(self, network: nn.Module, part: range) -> dict[str, Tensor]:
        chosen = slice(part.start, part.stop)
        with torch.inference_mode():
            return self.task.scores(network(_images().inputs[chosen]), _images().targets[chosen])


def task(network: str) -> ImageCoding:
    return ImageCoding(network)


def test(network: str) -> ImageTest:
    return ImageTest(task(network))


def files(network: str | None = None) -> list[RemoteFile]:
    return []


def provenance(network: str) -> dict[str, str]:
    return {"data": "scikit-learn load_digits"}
