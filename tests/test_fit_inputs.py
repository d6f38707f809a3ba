"""`fit` and `reestimate` on inputs of any shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from test_fit_hooks import Stopped
from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.training import Recipe, fit
from benchmarks.training.batchnorm import reestimate
from methods.interface import Augmentation, Split


@dataclass(frozen=True)
class Regression:
    """What `fit` and `reestimate` need of a task whose items have any shape: y is the mean of x."""

    train: Split
    augmentation: Augmentation

    def calibration(self, n: int) -> Split:
        return Split(self.train.inputs[:n], self.train.targets[:n])

    def prepare(self, inputs: Tensor) -> Tensor:
        return 2 * inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(1) - targets).square().mean()


def regression(*shape: int) -> Any:
    inputs = torch.rand(300, *shape, generator=torch.Generator().manual_seed(0))
    return Regression(Split(inputs, inputs.view(300, -1).mean(1)), Augmentation())


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((), lambda: [nn.Unflatten(0, (-1, 1)), nn.Linear(1, 8)]),
        ((6,), lambda: [nn.Linear(6, 8), nn.BatchNorm1d(8)]),
        ((3, 5), lambda: [nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(12, 8)]),
        ((2, 4, 4, 4), lambda: [nn.Conv3d(2, 4, 3), nn.Flatten(), nn.Linear(32, 8)]),
    ],
)
def test_inputs_of_any_shape_are_learned_from(shape: tuple[int, ...], layers: Any) -> None:
    task = regression(*shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(*layers(), nn.ReLU(), nn.Linear(8, 1))

    @torch.no_grad()
    def error() -> float:
        return float(task.loss(network.eval()(task.prepare(task.train.inputs)), task.train.targets))

    before = error()
    fit(network, task, Stopped(), Recipe(4, 0.02, batch=20), "stage")
    assert error() < before / 4
    reestimate(network, task, 300)
    assert error() < before / 4


def test_statistics_of_vectors_are_reestimated() -> None:
    task = regression(6)
    for norm in (nn.BatchNorm1d(6), nn.BatchNorm1d(6, affine=False)):  # the latter has no parameter
        reestimate(nn.Sequential(norm), task, 200)
        inputs = 2 * task.train.inputs[:200]
        torch.testing.assert_close(norm.running_mean, inputs.mean(0))
        torch.testing.assert_close(norm.running_var, inputs.var(0))


def test_what_is_no_image_can_not_be_augmented() -> None:
    recipe = Recipe(1, 0.05, augmentation=Augmentation(flip=True))
    with pytest.raises(
        MethodError, match=r"inputs of shape \(128, 6\) are not images and can't be augmented: set an empty"
    ):
        fit(nn.Linear(6, 1), regression(6), Stopped(), recipe, "stage")
