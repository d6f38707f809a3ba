"""The sparsity index, its bound, the Lasso by one covariance for all neurons, and backward pruning."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import Lasso
from test_every_method import MemoryRun
from torch import Tensor, nn

from benchmarks import bitstream, networks, tasks
from methods import sparse_linear
from methods.interface import Budget, Task
from methods.sparse_linear import neurons
from methods.sparse_linear.backward import observed, perceptron, pruned

QS = (0.3, 0.5, 0.7)
rows = arrays(np.float64, (3, 17), elements=st.floats(-10, 10).map(lambda x: round(x, 3)))


def index_by_hand(row: np.ndarray, q: float) -> float:
    return float(np.abs(row).sum() / (np.abs(row) ** q).sum() ** (1 / q))


@given(values=rows, q=st.sampled_from(QS))
@settings(max_examples=60, deadline=None)
def test_the_sparsity_index_is_the_ratio_of_two_norms(values: np.ndarray, q: float) -> None:
    found = neurons.sparsity_index(torch.from_numpy(values), q)
    for row, one in zip(values, found.tolist(), strict=True):
        if row.any():
            assert one == pytest.approx(index_by_hand(row, q), rel=1e-9)
            assert 17 ** (1 - 1 / q) * (1 - 1e-9) <= one <= 1 + 1e-9
    scaled = neurons.sparsity_index(torch.from_numpy(values * 1e-200), q)
    torch.testing.assert_close(scaled, found, rtol=1e-6, atol=0)


@pytest.mark.parametrize("q", QS)
def test_one_weight_needs_one_and_equal_weights_all(q: float) -> None:
    one_hot, equal, none = torch.zeros(1, 64).double(), torch.full((1, 64), 0.7).double(), torch.zeros(1, 64).double()
    one_hot[0, 5] = -3
    assert neurons.kept(torch.cat([one_hot, equal, none]), 0.0, q).tolist() == [1, 64, 0]
    assert neurons.kept(equal, 0.2, q).item() == math.ceil(64 / 1.2 ** (1 / (1 - q)))


@given(values=rows, eta=st.sampled_from((0.0, 0.1, 0.3)), q=st.sampled_from(QS))
@settings(max_examples=60, deadline=None)
def test_no_fewer_weights_leave_so_little(values: np.ndarray, eta: float, q: float) -> None:
    """Any m largest weights that leave at most the share η of Σ|w|^q are at least as many as the bound says."""
    bound = neurons.kept(torch.from_numpy(values), eta, q).tolist()
    for row, m in zip(values, bound, strict=True):
        powers = np.sort(np.abs(row))[::-1] ** q
        for head in range(1, 18):
            if powers[head:].sum() <= eta * powers[:head].sum() and row.any():
                assert m <= head
                break


def test_the_bound_falls_with_eta_and_is_that_of_early_code() -> None:
    values = torch.randn(200, 512, generator=torch.Generator().manual_seed(0)).double()
    shares = [neurons.kept(values, eta, 0.5).double().mean().item() / 512 for eta in (0.0, 0.1, 0.2, 0.3)]
    assert shares == pytest.approx([0.85, 0.71, 0.59, 0.51], abs=0.01)
    means = [neurons.kept(values, 0.0, q).double().mean().item() / 512 for q in (0.3, 0.5, 0.7, 0.9)]
    assert means == pytest.approx([0.90, 0.85, 0.81, 0.78], abs=0.01)


def test_the_largest_weights_stay() -> None:
    values = torch.tensor([[3.0, -1, 2, -4], [1, 1, 1, 1], [0, 5, -5, 0]])
    assert neurons.largest(values, torch.tensor([2, 3, 0])).tolist() == [
        [True, False, False, True],
        [True, True, True, False],
        [False] * 4,
    ]
    assert neurons.without_smallest(values, 0.5).sum(1).tolist() == [2, 2, 2]
    assert neurons.without_smallest(torch.ones(1, 100), 0.29).sum().item() == 71  # 0.29 · 100 is a little less than 29


def test_one_covariance_gives_the_lasso_of_every_neuron() -> None:
    """Against scikit-learn, neuron by neuron on the inputs themselves; one input never varies."""
    penalties = (1e-4, 1e-2, 0.1)
    generator = np.random.default_rng(1)
    inputs = np.maximum(generator.standard_normal((400, 6)) @ generator.standard_normal((6, 12)), 0) + 0.5
    inputs[:, 3] = 2.0
    weights, biases = generator.standard_normal((5, 12)), generator.standard_normal(5)
    centred = inputs - inputs.mean(0)
    gram = torch.from_numpy(centred.T @ centred / len(inputs))
    path = [solution.numpy() for solution in neurons.lasso(gram, torch.from_numpy(weights), penalties)]
    for penalty, found in zip(penalties, path, strict=True):
        for row, bias, one in zip(weights, biases, found, strict=True):
            wanted = Lasso(alpha=penalty, tol=1e-12, max_iter=200_000).fit(inputs, inputs @ row + bias)
            np.testing.assert_allclose(one, wanted.coef_, atol=2e-3)
            intercept = bias + (row - one) @ inputs.mean(0)
            assert intercept == pytest.approx(wanted.intercept_, abs=5e-3)


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return networks.build("mlp", {"widths": [6, 10, 9, 2]})  # type: ignore[return-value]


def test_without_a_penalty_nothing_changes() -> None:
    gram = torch.eye(4).double() + 0.5
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double()
    (found,) = neurons.lasso(gram, weights, [0.0])
    torch.testing.assert_close(found, weights, rtol=1e-4, atol=1e-4)


def test_inputs_of_the_layers_are_those_of_the_network() -> None:
    network, inputs = net(), torch.randn(50, 6)
    layers = list(observed(perceptron(network) or [], inputs))
    with torch.no_grad():
        second = network[:3](inputs).double()  # flattened, first layer, ReLU
    torch.testing.assert_close(layers[1].mean, second.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layers[1].gram, torch.cov(second.T, correction=0), rtol=1e-5, atol=1e-6)


def test_neurons_that_nothing_reads_go_and_outputs_stay() -> None:
    """Wrong code that this finds: a cascade that stops after one layer, or that drops a neuron which is still read."""
    network, inputs = net(), torch.randn(40, 6)
    linear = perceptron(network) or []

    def rule(layer: Any, read: Tensor) -> tuple[Tensor, Tensor]:
        rows = layer.weight[read].clone()
        if rows.shape[1] == 9:
            rows[:, [0, 4]] = 0  # neurons 0 and 4 of the second layer
        if rows.shape[1] == 10:
            assert len(rows) == 7
            rows[:, 8] = 0  # neuron 8 of the first
        return rows, layer.bias[read]

    found = pruned(list(observed(linear, inputs)), rule)
    with torch.no_grad():
        linear[2].weight[:, [0, 4]] = 0
        linear[1].weight[:, 8] = 0
        before = network(inputs)
        for one, (weight, bias) in zip(linear, found, strict=True):
            one.weight.copy_(weight), one.bias.copy_(bias)
        torch.testing.assert_close(network(inputs), before)
    assert not linear[1].weight[[0, 4]].any() and not linear[1].bias[[0, 4]].any()
    assert not linear[0].weight[8].any() and linear[0].bias[8] == 0
    assert sum(int((p != 0).sum()) for p in network.parameters()) == 6 * 9 + 9 + 7 * 9 + 7 + 2 * 7 + 2


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(3, 2), nn.Sigmoid(), nn.Linear(2, 1)),
        nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)),
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 1)),
        nn.Sequential(nn.Conv2d(1, 1, 1)),
        nn.Linear(3, 2),
        nn.Sequential(),
    ],
    ids=["sigmoid", "two", "open", "biases", "convolution", "one", "none"],
)
def test_other_networks_are_no_perceptrons(network: nn.Module) -> None:
    assert perceptron(network) is None


def test_other_networks_are_refused() -> None:
    reason = sparse_linear.unsupported(tasks.load("digits", "digits_cnn"), sparse_linear.Config())
    assert reason == "needs linear layers with ReLU between them and nothing else: digits_cnn has other layers"
    assert sparse_linear.unsupported(tasks.load("mnist", "lenet_300_100"), sparse_linear.Config()) is None
    assert sparse_linear.unsupported(tasks.load("mnist", "lenet5"), sparse_linear.Config()) is not None


def curve(task: Task, **settings: Any) -> list[tuple[nn.Module, dict[str, Any]]]:
    points = sparse_linear.compress(task, sparse_linear.Config(**settings), MemoryRun(Budget("post-training", 0.0)))
    return [(bitstream.decode(bitstream.encode(point)), dict(point.point)) for point in points]


def error(network: nn.Module, task: Task) -> float:
    """The mean squared change of the outputs on training items, in the unit of the targets' spread."""
    inputs = task.prepare(task.train.inputs)
    with torch.no_grad():
        return float((network(inputs) - task.reference()(inputs)).square().mean())


def test_the_lasso_changes_outputs_least_at_equal_sparsity() -> None:
    """On the embedded regression, as in the paper's table: at the size of Mag (0.7), the refitted network is far closer."""
    task = tasks.load("diabetes", "mlp")
    lasso = curve(task, rule="lasso", penalties=(1e-6, 1e-3, 1e-2, 3e-2))
    (mag, _), *_ = curve(task, rule="magnitude", shares=(0.7,))
    sizes = [sum(int((p != 0).sum()) for p in network.parameters()) for network, _ in (*lasso, (mag, {}))]
    errors = [error(network, task) for network, _ in lasso]
    assert errors == sorted(errors) and errors[0] < 1e-4 and sizes[:4] == sorted(sizes[:4], reverse=True)
    smallest = min(i for i in range(4) if sizes[i] <= sizes[4]) if min(sizes[:4]) <= sizes[4] else None
    assert smallest is not None and errors[smallest] < 0.5 * error(mag, task)


def test_rules_have_their_points() -> None:
    task = tasks.load("diabetes", "mlp")
    found = [point for _, point in curve(task, rule="bound", bounds=((0.0, 0.5), (0.3, 0.5)))]
    assert found == [{"eta": 0.0, "q": 0.5}, {"eta": 0.3, "q": 0.5}]
    for wrong in ({"bounds": ()}, {"bounds": ((0.1, 0.5), (0.1, 0.5))}, {"penalties": (1e-3, 1e-4)}, {"shares": ()}):
        with pytest.raises(ValueError, match="has to"):
            sparse_linear.Config(**wrong)
