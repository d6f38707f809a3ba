"""Regression on the diabetes data that ship with scikit-learn: the mean squared error, which is better when it is lower."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.bitstream import blueprint
from benchmarks.data.download import RemoteFile
from benchmarks.evaluation import scoring
from methods.interface import Augmentation, Json, Metric, Split

METRICS = (Metric("squared error", "mg²", "mean", "Mean squared error of the prediction", 1.0, False, decimals=0),)
ITEMS = (300, 100)
NETWORKS = {"mlp": {"inputs": 10, "width": 32}}


@functools.cache
def _data() -> tuple[Split, Split, Split]:
    table = load_diabetes()
    inputs, targets = torch.from_numpy(table.data).float(), torch.from_numpy(table.target).float()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    first, second, third = (Split(inputs[chosen], targets[chosen]) for chosen in order.split([300, 42, 100]))
    return first, second, third


@dataclass(frozen=True, eq=False)
class Regression:
    network: str
    arguments: Mapping[str, Json]
    name: str = "diabetes"
    kind: str = "regression"
    architecture: str = "mlp"
    metrics: tuple[Metric, ...] = METRICS
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def reference_values(self) -> int:
        return blueprint.values(blueprint.skeleton(self.architecture, self.arguments, {}, {}))

    @property
    def uncompressed_bytes(self) -> int:
        return 4 * self.reference_values

    @property
    def train(self) -> Split:
        return _data()[0]

    @property
    def validation(self) -> Split:
        return _data()[1]

    def reference(self) -> nn.Module:
        """Random features and the least-squares read-out of them."""
        network = networks.build(self.architecture, self.arguments)
        draws = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws))
            features = torch.cat([network[:2](20 * self.train.inputs), torch.ones(len(self.train), 1)], 1)
            solved = torch.linalg.lstsq(features, self.train.targets[:, None]).solution
            network[0].weight.mul_(20)
            network[2].weight.copy_(solved[:-1].T)
            network[2].bias.copy_(solved[-1])
        return network.eval()

    def calibration(self, n: int) -> Split:
        return Split(self.train.inputs[:n], self.train.targets[:n])

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).square().mean()

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {METRICS[0].name: (outputs[:, 0] - targets).square()}


@dataclass(frozen=True)
class RegressionTest:
    task: Regression
    items: int = ITEMS[1]

    @property
    def example(self) -> Tensor:
        return torch.zeros(1, 10)

    def scores(self, network: nn.Module, part: range) -> dict[str, Tensor]:
        return scoring.scores(network, _data()[2], self.task, part)


def task(network: str) -> Regression:
    return Regression(network, NETWORKS[network])


def test(network: str) -> RegressionTest:
    return RegressionTest(task(network))


def files(network: str | None = None) -> list[RemoteFile]:
    return []


def provenance(network: str) -> dict[str, str]:
    return {"data": "scikit-learn load_diabetes", "reference": "least squares, fixed seed"}
