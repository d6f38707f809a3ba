"""What tasks with networks of random layers share: centred inputs, layers from a seed, and a read-out that is trained alone.

A committed reference holds the read-out; its random layers are drawn again, the same on every machine.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import seeds
from benchmarks.data.download import RemoteFile
from benchmarks.networks.random_features import RandomFeatures
from benchmarks.tasks.kinds import metrics, trained
from benchmarks.tasks.kinds.classification import Classification, ClassificationTest
from benchmarks.training.readout import Readout, features
from methods.interface import Augmentation, Json, Metric, Split, Task

ARCHITECTURE = "random_features"
READOUT = "readout.weight"


@dataclass(frozen=True, eq=False)
class Centred(Classification):
    """Images minus the mean training image, divided by one number: the mean of ‖x‖² over the training items is 1."""

    @functools.cached_property
    def _statistics(self) -> tuple[Tensor, float]:
        """The mean image (F,) and the root of the mean squared distance from it, exact up to a last rounding."""
        images = self.train.inputs.flatten(1)
        mean = sum_of(images, 1) / len(images)
        spread = float(sum_of(images, 2).sum() / len(images) - mean.square().sum())
        return mean.float(), spread**0.5

    def prepare(self, inputs: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) as fp32 vectors (N, C · H · W)."""
        mean, spread = self._statistics
        found: Tensor = (inputs.flatten(1).float() - mean.to(inputs.device)) / spread
        return found


def sum_of(images: Tensor, power: int) -> Tensor:
    """The sums (F,) over uint8 images (N, F) of their values to a power: integers, in fp64."""
    found = torch.zeros(images.shape[1], dtype=torch.int64)
    for start in range(0, len(images), 1_000):
        found += (images[start : start + 1_000].long() ** power).sum(0)
    return found.double()


@dataclass(frozen=True, eq=False)
class CentredTest(ClassificationTest):
    """Satisfies `benchmarks.tasks.Test`."""

    @property
    def example(self) -> Tensor:
        """A random vector (1, C · H · W) of about unit length: nothing is loaded for it."""
        size = math.prod(self.shape)
        return torch.randn(1, size, generator=torch.Generator().manual_seed(0)).div_(math.sqrt(size))


@dataclass(frozen=True)
class Family:
    """A task whose networks have the random layers `hidden`, each with several seeds: `1500_1500_1500_s0` and so on.

    `load` gives (train, validation) with labels from 0 to `classes` − 1, `load_test` the test items. `remote` are the files
    that both need; without any, `origin` says where the data come from.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    hidden: tuple[tuple[int, ...], ...]
    items: tuple[int, int]
    load: Callable[[], tuple[Split, Split]]
    load_test: Callable[[], Split]
    remote: tuple[RemoteFile, ...] = ()
    origin: str = ""
    seeds: int = 5

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return metrics.classification(self.classes)

    @functools.cached_property
    def networks(self) -> dict[str, Mapping[str, Json]]:
        """The arguments of the architecture, by network."""
        inputs = math.prod(self.shape)
        return {
            f"{'_'.join(map(str, widths))}_s{seed}": {"widths": [inputs, *widths, self.classes]}
            for widths in self.hidden
            for seed in range(self.seeds)
        }

    def task(self, network: str) -> Centred:
        """The task as a method sees it."""
        return Centred(
            name=self.name,
            network=network,
            architecture=ARCHITECTURE,
            arguments=self.networks[network],
            metrics=self.metrics,
            mean=(),
            std=(),
            augmentation=Augmentation(),
            load_splits=self.load,
            load_state=lambda: {**self.layers(network), READOUT: trained.state(self.name, network)["weight"]},
        )

    def test(self, network: str) -> CentredTest:
        return CentredTest(self.task(network), self.load_test, self.shape, self.items[1])

    def files(self, network: str | None = None) -> list[RemoteFile]:
        return list(self.remote)

    def provenance(self, network: str) -> dict[str, str]:
        data = {file.name: file.known_hash for file in self.remote} or {"data": self.origin}
        return data | trained.PROVENANCE

    def layers(self, network: str) -> dict[str, Tensor]:
        """The random layers: independent values of N(0, 1) in fp32, by a generator whose steps are exact."""
        widths = cast(Sequence[int], self.networks[network]["widths"])[:-1]
        found = {}
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            draws = np.random.Generator(np.random.PCG64(seeds.derive("random layer", self.name, network, number)))
            found[f"layers.{number}.weight"] = torch.from_numpy(
                draws.standard_normal((outputs, inputs), dtype=np.float32)
            )
        return found

    def trainable(self, network: nn.Module, task: Task) -> tuple[nn.Module, Task]:
        """The read-out, and the task as it sees it: `network` gets its random layers here."""
        assert isinstance(network, RandomFeatures)
        network.load_state_dict({**self.layers(task.network), READOUT: network.readout.weight})
        seen = Readout(task, lambda: features(network, task, task.train.inputs))
        return network.readout, cast(Task, seen)

    def cached_reference(self, network: str) -> Mapping[str, Tensor] | None:
        known = trained.cached(self.name, network)
        return None if known is None else {**self.layers(network), READOUT: known["weight"]}
