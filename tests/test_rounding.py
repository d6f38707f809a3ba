"""Rounding of a whole network: sweeps over single integers, weights that layers share, and as a storage of other methods."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from test_rdoq import correlated, known
from torch import Tensor, nn

import methods
from benchmarks import bitstream, tasks
from benchmarks.bitstream.modules.joined_conv2d import JoinedConv2d
from methods.families import curvature, feedback, rounding
from methods.interface import Budget

POST_TRAINING, SHORT = Budget("post-training", 0.0), Budget("short", 0.1)


def cost(weights: Tensor, codes: Tensor, inputs: feedback.Spread, rate: Tensor) -> Tensor:
    """(groups, rows): what rounding costs, by definition."""
    error = weights - codes
    return (error @ inputs.covariance * error).sum(dim=2) + (rate * inputs.variances[:, None] * codes.abs()).sum(dim=2)


@pytest.mark.parametrize("size", [5, 70])
def test_a_sweep_finds_the_best_integer_of_each_place_in_turn(size: int) -> None:
    inputs = feedback.spread(known(correlated(size)), 0.01)
    generator = torch.Generator().manual_seed(5)
    weights = 2 * torch.randn(1, 3, size, generator=generator, dtype=torch.float64)
    rate = 0.3 * torch.rand(1, 3, size, generator=generator, dtype=torch.float64)
    expected = feedback.rounded(weights, inputs, rate)
    found = feedback.refined(weights, expected, inputs, rate)
    for j in range(size):
        for row in range(3):
            tried = expected[:, row : row + 1].repeat(1, 21, 1)
            tried[0, :, j] = torch.arange(-10, 11)
            costs = cost(weights[:, row : row + 1], tried, inputs, rate[:, row : row + 1])
            expected[0, row, j] = int(costs.argmin()) - 10
    assert torch.equal(found, expected)


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_sweeps_lower_the_cost(rate: float) -> None:
    inputs = feedback.spread(known(correlated(150)), 0.01)
    weights = torch.randn(1, 3, 150, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    rates = torch.full_like(weights, rate)
    codes = feedback.rounded(weights, inputs, rates)
    costs = [cost(weights, codes, inputs, rates).sum()]
    for _ in range(3):
        codes = feedback.refined(weights, codes, inputs, rates if rate else None)
        costs.append(cost(weights, codes, inputs, rates).sum())
    assert (
        all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(costs)) and costs[1] < 0.97 * costs[0]
    )


def test_what_is_wanted_at_a_place_is_where_the_cost_of_its_row_is_least() -> None:
    """Its derivative by that place, by automatic differentiation, is zero there."""
    inputs = feedback.spread(known(correlated(7)), 0.01)
    weights = 2 * torch.randn(1, 3, 7, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    codes = feedback.rounded(weights, inputs)
    found = feedback.wanted(weights, codes, inputs)
    for j in range(7):
        tried = codes.clone()
        tried[:, :, j] = found[:, :, j]
        tried.requires_grad_()
        cost(weights, tried, inputs, torch.zeros_like(weights)).sum().backward()
        assert tried.grad is not None and tried.grad[:, :, j].abs().max() < 1e-9


class Shared(nn.Module):
    """Two convolutions with one weight, and two whose kernels have a piece in common; inputs of 4 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1)
        self.other.weight = self.one.weight
        window: Any = {"kernel_size": (3, 1), "stride": (1, 1), "padding": (1, 0)}
        self.outputs = JoinedConv2d(4, (2, 3), 0, **window)
        self.inputs = JoinedConv2d(3, (2, 3), 1, **window)
        for weight in self.parameters():
            nn.init.normal_(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inputs(self.outputs(torch.relu(self.other(torch.relu(self.one(inputs))))))


class Images:
    """A task of random images of 4 channels with unequal means."""

    def calibration(self, items: int) -> Any:
        generator = torch.Generator().manual_seed(0)
        return SimpleNamespace(
            inputs=torch.rand(items, 4, 6, 6, generator=generator) * torch.arange(1, 5).view(4, 1, 1)
        )

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs


def test_a_shared_weight_has_the_inputs_of_all_layers_that_read_it() -> None:
    torch.manual_seed(0)
    network, task = Shared(), Images()
    found = curvature.measured(rounding.unjoined(network), task, 50, 0)  # type: ignore[arg-type]
    weights = {name: weight for names, weight in rounding.weights(network, found, damping=0.01) for name in names}
    assert weights["one.weight"] is weights["other.weight"]
    assert weights["other.weight"].biases.keys() == {"other"}
    moments = [one.covariance[0] + torch.outer(one.mean[0], one.mean[0]) for one in (found["one"], found["other"])]
    expected = (moments[0] + moments[1]) / 2  # not centred: nothing answers a change of the mean of `one`
    expected += 0.01 * expected.diagonal().mean() * torch.eye(36)
    torch.testing.assert_close(weights["one.weight"].spread.covariance[0], expected)


def test_pieces_of_a_kernel_meet_their_own_inputs() -> None:
    torch.manual_seed(0)
    network, task = Shared(), Images()
    with torch.no_grad():
        inputs = task.calibration(50).inputs
        torch.testing.assert_close(rounding.unjoined(network)(inputs), network(inputs))
    assert isinstance(network.inputs, JoinedConv2d), "the network itself stays as it is"
    found = curvature.measured(rounding.unjoined(network), task, 50, 0)  # type: ignore[arg-type]
    weights = {name: weight for names, weight in rounding.weights(network, found, damping=0.01) for name in names}
    whole = found["inputs"].covariance[0] + torch.outer(found["inputs"].mean[0], found["inputs"].mean[0])
    for number, columns in enumerate([slice(0, 6), slice(6, 15)]):  # two and three channels of a kernel of three places
        weight = weights[f"inputs.weights.{number}"]
        assert torch.equal(weight.matrices[0], network.inputs.weights[number].detach().double().flatten(1))
        own = whole[columns, columns]
        damping = 0.01 * own.diagonal().mean() * torch.eye(len(own))
        torch.testing.assert_close(weight.spread.covariance[0], own + damping)
    for number, piece in enumerate(network.outputs.weights):
        weight = weights[f"outputs.weights.{number}"]
        assert torch.equal(weight.matrices[0], piece.detach().double().flatten(1))
        assert weight.spread.covariance.shape == (1, 12, 12)


STORING = [
    ("svd", {"rates": (0.5,)}),
    ("tucker", {"rates": (0.5,)}),
    ("jsvd", {"rates": (0.5,), "scheme": "ljsvd"}),
    ("jsvd", {"rates": (0.5,), "scheme": "bijsvd"}),
    ("l1_filter", {"targets": (0.3,)}),
]


def divergences(key: str, config: dict[str, Any]) -> list[tuple[float, int]]:
    """With storage "uniform" and "rdoq": from the network with exact weights to the one of the file, in nats; the file's bytes.

    On training items that were not for calibration.
    """
    task = tasks.load("digits", "digits_resnet")
    inputs = task.prepare(task.calibration(900).inputs[200:])

    def made(**changes: Any) -> tuple[Tensor, int]:
        method = methods.get(key)
        (point,) = method.compress(task, method.Config(**config, recalibrate=200, **changes), MemoryRun(POST_TRAINING))
        data = bitstream.encode(point)
        with torch.no_grad():
            return bitstream.decode(data)(inputs).log_softmax(dim=1), len(data)

    exact, _ = made(bits=16, storage="uniform")
    found = []
    for stored in ("uniform", "rdoq"):
        own, size = made(bits=4, storage=stored)
        found.append((float((exact.exp() * (exact - own)).sum(dim=1).mean()), size))
    return found


@pytest.mark.parametrize(("key", "config"), STORING, ids=lambda value: str(value))
def test_as_a_storage_it_changes_decisions_less_at_the_same_size(key: str, config: dict[str, Any]) -> None:
    (plain, large), (own, small) = divergences(key, config)
    assert own < 0.75 * plain and small < 1.01 * large, (own / plain, small / large)


@pytest.mark.parametrize(("key", "config"), STORING[2:], ids=lambda value: str(value))
def test_weights_that_were_trained_are_stored_with_their_own_statistics(key: str, config: dict[str, Any]) -> None:
    """BatchNorm's statistics after training are kept, but for what rounding changed."""
    task, method = tasks.load("digits", "digits_resnet"), methods.get(key)
    inputs, found = task.prepare(task.calibration(900).inputs[200:]), []
    for changes in ({"bits": 16, "storage": "rdoq"}, {"bits": 16, "storage": "uniform"}):
        (point,) = method.compress(task, method.Config(**config, recalibrate=200, **changes), MemoryRun(SHORT))
        with torch.no_grad():
            found.append(bitstream.decode(bitstream.encode(point))(inputs))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0.03 * float(found[1].abs().max()))


def test_images_are_needed() -> None:
    for key in ("svd", "l1_filter"):
        with pytest.raises(ValueError, match="storage 'rdoq' needs images: set recalibrate"):
            methods.get(key).Config(storage="rdoq", recalibrate=0)
