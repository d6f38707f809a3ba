"""Curvature, error feedback, control variates and `rdoq` itself, against plain loops and what has to hold."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.errors import MethodError
from methods.baselines import rdoq
from methods.families import curvature, feedback
from methods.families.curvature import Curvature
from methods.interface import Budget

POST_TRAINING = Budget("post-training", 0.0)
LAYERS = [
    nn.Conv2d(4, 6, 3, stride=2, padding=1),
    nn.Conv2d(4, 6, (3, 2), padding=(2, 1), dilation=(2, 1), groups=2, bias=False),
    nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular"),
    nn.Conv2d(4, 6, 1),
]


def known(inputs: Tensor, groups: int = 1) -> Curvature:
    """The curvature of a layer with these inputs (samples, size) in each group and equally sensitive outputs."""
    mean = inputs.mean(dim=0)
    centred = inputs - mean
    covariance = centred.T @ centred / len(inputs)
    return Curvature(mean.expand(groups, -1), covariance.expand(groups, -1, -1), torch.ones(groups, 3).double())


def correlated(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(4000, size, generator=generator, dtype=torch.float64) @ mixing


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_what_meets_the_weights_gives_the_output(layer: nn.Conv2d) -> None:
    inputs = torch.randn(2, 4, 7, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = layer(inputs)
        rows = curvature.unfolded(layer, inputs)
        weights = layer.weight.reshape(layer.groups, -1, rows.shape[-1])
        found = (weights @ rows.mT).reshape(expected.shape)
        if layer.bias is not None:
            found += layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(found, expected)


def test_sensitivities_are_squared_gradients_by_item() -> None:
    """Of each projection by each weight, item by item, over the variance of the inputs."""
    task = tasks.load("digits", "digits_cnn")
    network = task.reference()
    found = curvature.measured(network, task, 12, 2)
    items, path = task.prepare(task.calibration(12).inputs), "3"
    layer: Any = network.get_submodule(path)
    draws = curvature.generator("random projections")
    vectors = [torch.randn(12, 10, generator=draws) for _ in range(2)]
    own, mean = found[path], found[path].mean[0]
    squares = torch.zeros(len(layer.weight), dtype=torch.float64)
    for vector in vectors:
        for item, direction in zip(items, vector, strict=True):
            grasped: list[Tensor] = []
            handle = layer.register_forward_hook(lambda _m, _i, out, grasped=grasped: grasped.append(out))
            inputs: list[Tensor] = []
            before = layer.register_forward_pre_hook(lambda _m, given, inputs=inputs: inputs.append(given[0].detach()))
            output = network(item[None])
            handle.remove(), before.remove()
            (slope,) = torch.autograd.grad((output[0] * (direction - direction.mean())).sum(), grasped)
            rows = curvature.unfolded(layer, inputs[0])[0, 0].double() - mean
            squares += (slope[0].flatten(1).double() @ rows).square().sum(dim=1)
    variance = own.covariance[0].diagonal().sum()
    torch.testing.assert_close(own.sensitivity[0], squares / variance / 24, rtol=1e-3, atol=1e-12)


def test_covariances_are_those_of_the_inputs() -> None:
    task = tasks.load("digits", "digits_cnn")
    found = curvature.measured(task.reference(), task, 30, 1)["0"]
    rows = curvature.unfolded(nn.Conv2d(1, 4, 3, padding=1), task.prepare(task.calibration(30).inputs))[:, 0]
    samples = rows.reshape(-1, 9).double()
    torch.testing.assert_close(found.mean[0], samples.mean(dim=0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.covariance[0], torch.cov(samples.T, correction=0), rtol=1e-4, atol=1e-5)


class Wide(nn.Module):
    """A depthwise and a linear layer behind images that are larger than what is drawn from them."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.linear = nn.Linear(6, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(torch.relu(self.depthwise(inputs)).mean(dim=(2, 3)))


class Images:
    """A task of smooth images; the third channel is constant."""

    def __init__(self, side: int, items: int) -> None:
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(items, 3, 4, 4, generator=generator)
        self.inputs = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
        self.inputs[:, 2] = 0.3

    def calibration(self, items: int) -> Any:
        return SimpleNamespace(inputs=self.inputs[:items])

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs


@pytest.mark.parametrize("side", [32, 64])
def test_positions_are_drawn_from_the_whole_image(side: int) -> None:
    """Evenly spaced ones would meet the same columns of each row."""
    torch.manual_seed(0)
    network, task = Wide(), Images(side, 200)
    found: Any = curvature.measured(network, task, 200, 0)["depthwise"]  # type: ignore[arg-type]
    rows = curvature.unfolded(network.depthwise, task.inputs).transpose(0, 1).flatten(1, 2).double()
    torch.testing.assert_close(found.mean, rows.mean(dim=1), rtol=0.03, atol=0.01)
    exact = torch.stack([torch.cov(group.T, correction=0) for group in rows])
    torch.testing.assert_close(found.covariance, exact, rtol=0.1, atol=0.004)


def test_sensitivities_of_grouped_and_linear_layers_predict_the_change() -> None:
    """Noise that is added to an output channel's weights changes the squared outputs by sensitivity × variance × inputs'."""
    torch.manual_seed(0)
    network, task = Wide(), Images(16, 60)
    found: Any = curvature.measured(network, task, 60, 200)  # type: ignore[arg-type]
    with torch.no_grad():
        for path, layer in (("depthwise", network.depthwise), ("linear", network.linear)):
            known, scale, before = found[path], 1e-3, network(task.inputs)
            moment = known.covariance.diagonal(dim1=-2, dim2=-1).sum(dim=1, keepdim=True)
            changes = []
            for _ in range(400):
                noise = scale * torch.randn_like(layer.weight)
                rows = noise.reshape(*known.sensitivity.shape, -1).double()
                layer.weight += noise
                layer.bias -= (rows @ known.mean[:, :, None]).flatten().float()  # the mean of an output stays
                after = network(task.inputs) - before
                changes.append((after - after.mean(dim=1, keepdim=True)).square().sum(dim=1).mean())
                layer.weight -= noise
                layer.bias += (rows @ known.mean[:, :, None]).flatten().float()
            expected = float((known.sensitivity * moment).sum()) * scale**2
            assert float(torch.stack(changes).mean()) == pytest.approx(expected, rel=0.2), path


@pytest.mark.parametrize("inputs", [torch.full((50, 20), 0.3), 3000 + torch.randn(50, 20), torch.zeros(50, 20)])
def test_inputs_that_hardly_vary_have_a_spread(inputs: Tensor) -> None:
    layer = nn.Linear(20, 3)
    sums = curvature._Sums(layer, torch.device("cpu"))
    for part in inputs.split(10):
        sums.see(layer, (part,), layer(part))
    for centred in (True, False):
        found = feedback.spread(sums.curvature(0), 0.02, centred=centred)
        assert found.factors.isfinite().all() and (found.variances > 0).all()


def test_a_dead_group_does_not_change_what_is_typical_of_the_others() -> None:
    task, network = Images(16, 60), Wide()
    found: Any = curvature.measured(network, task, 60, 4)["depthwise"]  # type: ignore[arg-type]
    spread = feedback.spread(found, 0.02)
    importance = spread.variances / spread.typical
    assert (importance.log().mean(dim=1).abs() < 1e-9).all()
    units = rdoq._units({"": found}, {"": spread})[""].flatten()
    assert units.log().mean().abs() < 1e-6
    assert units.max() / units.min() < 10


def test_steps_by_channel_are_1_in_the_geometric_mean_over_all_weights() -> None:
    """A depthwise layer counts with all its weights."""
    generator = torch.Generator().manual_seed(3)
    found, sizes = {}, {}
    for path, (groups, rows, size) in {"a": (32, 1, 9), "b": (1, 8, 36)}.items():
        mean = torch.zeros(groups, size, dtype=torch.float64)
        covariance = torch.eye(size, dtype=torch.float64).repeat(groups, 1, 1)
        sensitivity = (100 if path == "a" else 1) * torch.rand(groups, rows, generator=generator, dtype=torch.float64)
        found[path], sizes[path] = Curvature(mean, covariance, sensitivity + 0.5), groups * rows * size
    units = rdoq._units(found, {path: feedback.spread(one, 0.01) for path, one in found.items()})
    assert sum(units[path].log().mean() * size for path, size in sizes.items()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [5, 64, 150])
def test_feedback_is_the_best_answer_to_each_error(size: int) -> None:
    """Column by column, as by definition: the weights that are left minimise the expected squared change of the outputs."""
    one = known(correlated(size))
    covariance = one.covariance[0] + 0.01 * one.covariance[0].diagonal().mean() * torch.eye(size)
    weights = 3 * torch.randn(1, 3, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left, expected = weights[0].clone(), torch.empty(3, size, dtype=torch.float64)
    for j in range(size):
        expected[:, j] = left[:, j].round()
        error = left[:, j] - expected[:, j]
        if j + 1 < size:
            rest = covariance[j + 1 :, j + 1 :]
            left[:, j + 1 :] += error[:, None] * torch.linalg.solve(rest, covariance[j + 1 :, j])
        left[:, j] = expected[:, j]
    assert torch.equal(feedback.rounded(weights, feedback.spread(one, 0.01))[0], expected)


def test_feedback_changes_the_outputs_less() -> None:
    one = known(correlated(100))
    weights = torch.randn(1, 3, 100, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def change(codes: Tensor) -> float:
        error = (weights - codes)[0]
        return float((error @ one.covariance[0] * error).sum())

    plain = change(weights.round())
    assert change(feedback.rounded(weights, feedback.spread(one, 0.01))) < 0.5 * plain
    assert torch.equal(feedback.rounded(weights, feedback.spread(one, 0.01, feedback=False)), weights.round())


def test_the_variance_of_an_input_whose_later_ones_are_known() -> None:
    one = known(correlated(6))
    found = feedback.spread(one, 1e-12).variances[0]
    for j in range(6):
        block = one.covariance[0][j:, j:]
        left = block[0, 0] - (block[0, 1:] @ torch.linalg.solve(block[1:, 1:], block[1:, 0]) if j < 5 else 0)
        assert float(found[j]) == pytest.approx(float(left), rel=1e-6)


def test_rates_pull_towards_zero() -> None:
    """The least of (w − q)² + rate · |q| over floor, ceiling and zero."""
    one = feedback.spread(known(torch.eye(4, dtype=torch.float64).repeat(9, 1)), 1e-9, feedback=False)
    weights = torch.tensor([[[1.4, -1.6, 0.6, 2.5]]], dtype=torch.float64)
    for rate in (0.0, 0.21, 0.9, 2.0, 3.0):
        found = feedback.rounded(weights, one, torch.full_like(weights, rate))[0, 0]
        for code, weight in zip(found.tolist(), weights[0, 0].tolist(), strict=True):
            costs = {q: (weight - q) ** 2 + rate * abs(q) for q in (0, math.floor(weight), math.ceil(weight))}
            assert costs[int(code)] == min(costs.values()), (rate, weight)


def test_a_unit_of_magnitude_costs_more_where_magnitudes_are_small() -> None:
    codes = torch.tensor([[[3.0, -1, 0, 0], [1, 1, 0, 2]]])  # means: layer 1, outputs 1 and 1, inputs 1.5 and 0.5
    found = feedback.bits_per_unit(codes, 2)
    assert found[0, 0].tolist() == pytest.approx([math.log2(1 + 1 / 1.5)] * 2 + [math.log2(3)] * 2)
    assert feedback.bits_per_unit(torch.zeros(1, 2, 4), 2).unique().tolist() == [feedback.MOST_BITS]


def test_a_network_without_such_layers_is_a_sentence() -> None:
    with pytest.raises(MethodError, match="no linear layer and no convolution in two dimensions"):
        curvature.layers(nn.Sequential(nn.Conv1d(1, 2, 3)))


def decoded(network: str, **settings: Any) -> tuple[nn.Module, int]:
    task = tasks.load("digits", network)
    point = next(rdoq.compress(task, rdoq.Config(items=100, **settings), MemoryRun(POST_TRAINING)))
    data = bitstream.encode(point)
    return bitstream.decode(data), len(data)


@pytest.mark.parametrize("network", ["digits_cnn", "digits_resnet"])
@pytest.mark.parametrize("grid", ["channel", "tensor"])
def test_fine_steps_give_the_reference(network: str, grid: Any) -> None:
    """Also where BatchNorm holds the steps of the channels."""
    task = tasks.load("digits", network)
    inputs = task.prepare(task.calibration(50).inputs)
    found, _ = decoded(network, steps=(1e-4,), grid=grid, rate=0.0)
    with torch.no_grad():
        torch.testing.assert_close(found(inputs), task.reference()(inputs), rtol=2e-2, atol=2e-2)


def change(network: nn.Module) -> float:
    """Kullback-Leibler divergence of the network's decisions from the reference's, in nats, on training items."""
    task = tasks.load("digits", "digits_cnn")
    inputs = task.prepare(task.calibration(400).inputs[100:])
    with torch.no_grad():
        reference, own = (n(inputs).log_softmax(dim=1) for n in (task.reference(), network))
    return float((reference.exp() * (reference - own)).sum(dim=1).mean())


def test_parts_pay() -> None:
    """At one step: feedback and BatchNorm's correction change the decisions less, rate and contexts make the file smaller."""
    whole, size = decoded("digits_cnn", steps=(1.0,))
    for settings in ({"feedback": False}, {"batchnorm": "none"}):
        assert change(whole) < change(decoded("digits_cnn", steps=(1.0,), **settings)[0]), settings
    for settings in ({"rate": 0.0}, {"coder": "static"}):
        assert size < decoded("digits_cnn", steps=(1.0,), **settings)[1], settings
