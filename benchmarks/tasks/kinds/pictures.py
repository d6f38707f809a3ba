"""Image coding: a file is one picture, drawn by a network from coordinates; the task as methods see it, and the test.

The picture is the only item. An encoder has it at hand, so it is given for training and for validation, and the score is taken
on it, too: nothing is predicted about other pictures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

from benchmarks.evaluation import scoring
from benchmarks.networks import sine
from benchmarks.tasks.kinds.classification import Classification
from benchmarks.training import modes
from methods.interface import IMAGE_CODING, Augmentation, Metric, Split

PSNR = Metric(
    "psnr",
    "dB",
    "mean",
    "Peak signal-to-noise ratio of the decoded picture over all red, green and blue values, without rounding",
)
METRICS, ITEMS = (PSNR,), (1, 1)
LEAST = 1e-10  # of the mean squared error, so that an exact picture has a finite ratio: 100 dB
ARCHITECTURE = "sine"
LearnFrom: TypeAlias = Callable[[], tuple[tuple[int, int], Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Picture(Classification):
    """Satisfies `methods.interface.Task`: inputs are coordinates fp32 (1, P, 2), targets colours uint8 (1, P, 3).

    P counts the pixels, row by row. The reference is a sine network that was fitted to the picture, from the learned initial
    weights `start` (`starts`) or, if that is empty, from random ones. `learn_from` gives the size
    (height, width) of other pictures, those from which initial weights are learned, uint8 (N, P, 3), and such for validation.
    """

    kind: str = IMAGE_CODING
    start: str = ""
    learn_from: LearnFrom | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.arguments["size"]  # type: ignore[misc, union-attr]
        return int(height), int(width)  # type: ignore[arg-type]

    @property
    def uncompressed_bytes(self) -> int:
        """Of the picture: three for each pixel."""
        return 3 * self.size[0] * self.size[1]

    @property
    def reference_values(self) -> None:  # type: ignore[override]
        """Bits are counted by pixels, not by weights."""
        return

    def calibration(self, n: int) -> Split:
        """The picture, however many items are asked for: an encoder knows it."""
        return self.train

    def prepare(self, inputs: Tensor) -> Tensor:
        """Coordinates, as the network takes them."""
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error of colours in [−1, 1]."""
        return nn.functional.mse_loss(outputs, targets / 127.5 - 1)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """PSNR in dB of each picture (N,): colours are clipped to [0, 1] and not rounded."""
        error = (((outputs.double() + 1) / 2).clamp(0, 1) - targets.double() / 255).square().flatten(1).mean(1)
        return {PSNR.name: -10 * error.clamp_min(LEAST).log10()}


@dataclass(frozen=True, eq=False)
class PictureTest:
    """Satisfies `benchmarks.tasks.Test`: the picture that is coded."""

    task: Picture
    items: int = ITEMS[1]

    @property
    def example(self) -> Tensor:
        """The coordinates (1, P, 2) of all pixels."""
        return sine.coordinates(*self.task.size)[None]

    def split(self) -> Split:
        with modes.standard():
            return self.task.load_splits()[1]

    def scores(self, network: nn.Module, part: range) -> dict[str, Tensor]:
        return scoring.scores(network, self.split(), self.task, part)


def picture(
    name: str,
    network: str,
    size: tuple[int, int],
    width: int,
    frequencies: int,
    load: Callable[[], Tensor],
    load_state: Callable[[], Mapping[str, Tensor]],
    learn_from: LearnFrom | None = None,
) -> Picture:
    """A task of one picture: `load` gives its pixels uint8 (height, width, 3), `load_state` the tensors of the reference.

    `width` and `frequencies` are those of the reference (`benchmarks.networks.sine`). With `learn_from` (`Picture`), it is
    fitted from learned initial weights: one set for the pictures of a task and a width.
    """

    @functools.cache
    def splits() -> tuple[Split, Split]:
        whole = Split(sine.coordinates(*size)[None], load().reshape(1, -1, 3))
        return whole, whole

    return Picture(
        name=name,
        network=network,
        architecture=ARCHITECTURE,
        arguments={"size": list(size), "width": width, "frequencies": frequencies},
        metrics=METRICS,
        mean=(),
        std=(),
        augmentation=Augmentation(),
        load_splits=splits,
        load_state=load_state,
        start=f"{name}_{width}" if learn_from else "",
        learn_from=learn_from,
    )
