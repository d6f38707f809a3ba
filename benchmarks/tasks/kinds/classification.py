"""Image classification: the task as methods see it (lazy splits, a reference, a loss), and the test items for the suite."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.bitstream import blueprint
from benchmarks.errors import TaskError
from benchmarks.evaluation import scoring
from benchmarks.tasks.kinds.metrics import TOP1, TOP5
from benchmarks.training import modes
from methods.interface import CLASSIFICATION, Augmentation, Json, Metric, Split

SPLIT_SEED = 20220209  # draws the validation split; part of the task's definition, independent of a run's seed


@dataclass(frozen=True, eq=False)
class Classification:
    """Satisfies `methods.interface.Task`; `load_splits` gives (train, validation), `load_state` the trained tensors.

    `mean` and `std` (one value per channel) normalise images that are scaled to [0, 1]. A task without training images may
    have a `load_calibration` for unlabelled ones.
    """

    name: str
    network: str
    architecture: str
    arguments: Mapping[str, Json]
    metrics: tuple[Metric, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    load_splits: Callable[[], tuple[Split, Split]]
    load_state: Callable[[], Mapping[str, Tensor]]
    kind: str = CLASSIFICATION
    load_calibration: Callable[[], Split] | None = None

    @functools.cached_property
    @modes.standard()
    def _splits(self) -> tuple[Split, Split]:
        return self.load_splits()

    @functools.cached_property
    @modes.standard()
    def _for_calibration(self) -> Split:
        return self.load_calibration() if self.load_calibration else self.train

    @functools.cached_property
    @modes.standard()
    def _state(self) -> Mapping[str, Tensor]:
        state = self.load_state()
        for name, tensor in state.items():
            if not torch.isfinite(tensor).all():
                msg = (
                    f"the reference {self.network} has NaN or infinite values in {name!r}: "
                    "it can't be compressed or scored; fetch or train it again"
                )
                raise TaskError(msg)
        return state

    @property
    def uncompressed_bytes(self) -> int:
        return 4 * self.reference_values

    @functools.cached_property
    def reference_values(self) -> int:
        return blueprint.values(blueprint.skeleton(self.architecture, self.arguments, {}, {}))

    @property
    def train(self) -> Split:
        return self._splits[0]

    @property
    def validation(self) -> Split:
        return self._splits[1]

    @modes.standard()
    def reference(self) -> nn.Module:
        state = self._state
        with torch.device("meta"):  # allocates no memory and draws no random numbers for weights that are replaced
            network = networks.build(self.architecture, self.arguments)
        network.to_empty(device="cpu")
        for buffer in network.buffers():
            buffer.zero_()  # a checkpoint of an old PyTorch has no batch counters
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            msg = f"the reference {self.network} does not fit its architecture: {error}"
            raise TaskError(msg) from error
        return network.eval()

    @modes.standard()
    def calibration(self, n: int) -> Split:
        source = self._for_calibration
        if not 0 < n <= len(source):
            msg = f"calibration needs between 1 and {len(source)} images, not {n}"
            raise TaskError(msg)
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(SPLIT_SEED))[:n]
        return Split(source.inputs[order], source.targets[order])

    def prepare(self, inputs: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) as the network's normalised fp32 input, channels_last."""
        mean = torch.tensor(self.mean, device=inputs.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=inputs.device).view(1, -1, 1, 1)
        return (inputs.float().div_(255) - mean).div_(std).contiguous(memory_format=torch.channels_last)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Whether the target is the most likely class and, if the task has top-5, among the five most likely ones."""
        found = {TOP1.name: outputs.argmax(1) == targets}
        if TOP5 in self.metrics:
            found[TOP5.name] = (outputs.topk(5).indices == targets[:, None]).any(1)
        return found


@dataclass(frozen=True, eq=False)
class ClassificationTest:
    """Satisfies `benchmarks.tasks.Test`: the test images of a task; methods have no access to them."""

    task: Classification
    load: Callable[[], Split]
    shape: tuple[int, int, int]
    items: int

    @property
    @modes.standard()
    def example(self) -> Tensor:
        """A random input (1, C, H, W) of the network."""
        draws = torch.randint(256, (1, *self.shape), generator=torch.Generator().manual_seed(SPLIT_SEED))
        return self.task.prepare(draws.to(torch.uint8))

    def split(self) -> Split:
        with modes.standard():
            return self.load()

    def scores(self, network: nn.Module, part: range) -> dict[str, Tensor]:
        return scoring.scores(network, self.split(), self.task, part)


def cut(images: Tensor, labels: Tensor, *sizes: int) -> list[Split]:
    """Disjoint random splits of the given sizes, always the same for the same number of images."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return [Split(images[chosen], labels[chosen]) for chosen in order.split(list(sizes))]
