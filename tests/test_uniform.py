"""Uniform quantisation with both grids: the steps of each channel, what they do to the function, and small files."""

from __future__ import annotations

import copy
import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from test_structured import lively
from test_structured_layers import Crowded, example
from torch import Tensor, nn

from benchmarks import bitstream, networks, tasks
from benchmarks.evaluation.scoring import total_score
from methods.baselines import uniform
from methods.interface import Budget

GRIDS = ("tensor", "batchnorm")
STEPS = (0.02, 0.3, 1.1)
every_grid = pytest.mark.parametrize("grid", GRIDS)
PAIRS = {"digits_cnn": {"0": "1", "3": "4", "7": "8"}}  # a convolution, and the BatchNorm that reads it


def decoded(network: str, grid: Any, steps: tuple[float, ...] = STEPS) -> list[tuple[nn.Module, int]]:
    """The networks in the files, and their bytes; BatchNorm is not measured again."""
    config = uniform.Config(steps=steps, grid=grid, recalibrate=0)
    points = uniform.compress(tasks.load("digits", network), config, MemoryRun(Budget("post-training", 0.0)))
    files = [bitstream.encode(point) for point in points]
    return [(bitstream.decode(data), len(data)) for data in files]


def root_mean_square(network: nn.Module) -> float:
    weights = [m.weight.detach().flatten() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return math.sqrt(sum(float(w) ** 2 for w in torch.cat(weights)) / sum(len(w) for w in weights))


@every_grid
def test_weights_are_whole_numbers_of_steps(grid: str) -> None:
    """A step is a multiple of the root mean square of all weights. With BatchNorm, weights are stretched by √(γ/σ) before."""
    reference = tasks.load("digits", "digits_cnn").reference()
    for (network, _), relative in zip(decoded("digits_cnn", grid), STEPS, strict=True):
        step = relative * root_mean_square(reference)
        for path in ("0", "3", "7", "12"):
            dense: Tensor = reference.get_parameter(f"{path}.weight").detach()
            stored = network.get_parameter(f"{path}.weight").detach()
            for channel in range(len(dense)):
                factor = 1.0
                if grid == "batchnorm" and path in PAIRS["digits_cnn"]:
                    norm: Any = reference.get_submodule(PAIRS["digits_cnn"][path])
                    gamma, variance = (float(t[channel]) for t in (norm.weight.detach(), norm.running_var))
                    factor = math.sqrt(max(abs(gamma) / math.sqrt(variance + norm.eps), 1e-4))
                codes = [factor * float(w) / step for w in dense[channel].flatten()]
                found = [float(w) / step for w in stored[channel].flatten()]
                assert all(abs(v - round(v)) < 1e-3 * max(1, abs(v)) for v in found)
                assert all(abs(v - c) <= 0.501 for v, c in zip(found, codes, strict=True))


@every_grid
@pytest.mark.parametrize("network", ["digits_cnn", "digits_resnet"])
def test_a_fine_grid_keeps_the_function_and_a_coarse_one_the_bytes(network: str, grid: str) -> None:
    task = tasks.load("digits", network)
    found, x = decoded(network, grid), task.prepare(task.validation.inputs[:50])
    with torch.no_grad():
        wanted = task.reference()(x)
        torch.testing.assert_close(found[0][0](x), wanted, rtol=0, atol=0.05 * float(wanted.abs().max()))
    assert all(later < 0.75 * earlier for earlier, later in itertools.pairwise(size for _, size in found))
    assert total_score(found[1][0], task.validation, task) >= 0.95 * total_score(
        task.reference(), task.validation, task
    )


@every_grid
@pytest.mark.parametrize("seed", range(3))
def test_batchnorms_may_have_any_epsilon_and_convolutions_biases(
    grid: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file has scale and shift; the decoder's variance is 1 − ε of each BatchNorm. Biases are stretched as weights are."""
    monkeypatch.setattr(networks, "build", lambda *_: Crowded())
    torch.manual_seed(seed)
    network, x = lively(Crowded()), example()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data.mul_(3)
    task: Any = SimpleNamespace(architecture="crowded", arguments={}, reference=lambda: copy.deepcopy(network))
    config = uniform.Config(steps=(0.001,), grid=grid, recalibrate=0)
    (point,) = uniform.compress(task, config, MemoryRun(Budget("post-training", 0.0)))
    with torch.no_grad():
        wanted = network(x)
        found = bitstream.decode(bitstream.encode(point))(x)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.003 * float(wanted.abs().max()))
