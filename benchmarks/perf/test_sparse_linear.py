"""The Lasso of all neurons of a layer by one covariance, against scikit-learn's on the inputs, neuron by neuron.

The reference of California Housing and its table have to be at hand (RATEBENCH_MIRROR or the cache).
"""

from __future__ import annotations

import time

import pytest
import torch
from sklearn.linear_model import Lasso

from benchmarks import tasks
from benchmarks.errors import TaskError
from methods.sparse_linear import neurons
from methods.sparse_linear.backward import observed, perceptron

PENALTIES = (1e-4, 1e-3)


@torch.no_grad()
def test_the_lasso_of_a_layer() -> None:
    task = tasks.load("california", "mlp_00")
    try:
        inputs = task.prepare(task.calibration(10_000).inputs)
    except TaskError as error:
        pytest.skip(str(error))
    linear = perceptron(task.reference())
    assert linear is not None
    layer = list(observed(linear, inputs))[1]
    neurons.lasso(layer.gram, layer.weight[:1], PENALTIES)  # compiles it
    start = time.perf_counter()
    path = neurons.lasso(layer.gram, layer.weight, PENALTIES)
    whole = time.perf_counter() - start
    values = torch.relu(linear[0](inputs.flatten(1))).double()
    sums = (values @ layer.weight.T + layer.bias).numpy()
    few, start = 5, time.perf_counter()
    for penalty, found in zip(PENALTIES, path, strict=True):
        for neuron in range(few):
            wanted = Lasso(alpha=penalty, max_iter=10_000).fit(values.numpy(), sums[:, neuron]).coef_
            own = found[neuron].numpy()

            def cost(row: object, neuron: int = neuron, penalty: float = penalty) -> float:
                error = torch.as_tensor(row) - layer.weight[neuron]
                return float(error @ layer.gram @ error / 2 + penalty * torch.as_tensor(row).abs().sum())

            assert cost(own) <= cost(wanted) * 1.001
    peer = (time.perf_counter() - start) / few * len(layer.weight)
    ratio = f"scikit-learn takes {peer / whole:.0f} times as long"
    print(f"\nLasso of {len(layer.weight)} neurons, {len(PENALTIES)} penalties: {whole:.2f} s; {ratio}")
