"""Regression: how far diabetes progresses within a year, from ten measurements of a patient (scikit-learn's data set)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.evaluation import scoring
from methods.interface import Augmentation, Json, Metric, Split

NETWORKS = {"mlp": {"width": 12}}
SIZES = (250, 60, 132)  # train, validation, test
ITEMS = (SIZES[0], SIZES[2])
MSE = Metric("mse", "σ²", "mean", "Squared error of the predicted progression", more_is_better=False, decimals=3)
METRICS, NONE = (MSE,), Augmentation()


@functools.cache
def splits() -> list[Split]:
    inputs, targets = (torch.from_numpy(array).float() for array in load_diabetes(return_X_y=True))
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1))
    inputs, targets = inputs / inputs.std(), (targets - targets.mean()) / targets.std()
    return [Split(inputs[chosen], targets[chosen, None]) for chosen in order.split(list(SIZES))]


@functools.cache
def trained(width: int) -> Mapping[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = networks.build("two_layers", {"width": width})
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.mse_loss(network(splits()[0].inputs), splits()[0].targets).backward()
        optimiser.step()
    return network.state_dict()


@dataclass(frozen=True, eq=False)
class Progression:
    """Satisfies `methods.interface.Task`."""

    network: str
    arguments: Mapping[str, Json]
    name: str = "progression"
    kind: str = "regression"
    architecture: str = "two_layers"
    metrics: tuple[Metric, ...] = METRICS
    augmentation: Augmentation = NONE

    @property
    def reference_values(self) -> int:
        return 12 * int(str(self.arguments["width"])) + 1

    @property
    def uncompressed_bytes(self) -> int:
        return 4 * self.reference_values

    @property
    def train(self) -> Split:
        return splits()[0]

    @property
    def validation(self) -> Split:
        return splits()[1]

    def reference(self) -> nn.Module:
        network = networks.build(self.architecture, self.arguments)
        network.load_state_dict(trained(int(str(self.arguments["width"]))))
        return network.eval()

    def calibration(self, n: int) -> Split:
        return Split(self.train.inputs[:n], self.train.targets[:n])

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"mse": (outputs - targets).square().mean(1)}


@dataclass(frozen=True)
class Test:
    """Satisfies `benchmarks.tasks.Test`."""

    task: Progression
    items: int = ITEMS[1]

    @property
    def example(self) -> Tensor:
        return splits()[2].inputs[:1]

    def scores(self, network: nn.Module, part: range) -> dict[str, Tensor]:
        return scoring.scores(network, splits()[2], self.task, part)


def task(network: str) -> Progression:
    return Progression(network, NETWORKS[network])


def test(network: str) -> Test:
    return Test(task(network))


def files(network: str | None = None) -> list[object]:
    return []


def provenance(network: str) -> dict[str, str]:
    return {"data": "scikit-learn load_diabetes", "reference": "trained on this machine, fixed seed"}
