"""Training weights that are stored on a grid: rounded in passes, exact in steps, resumed to the bit."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from torch import nn

from benchmarks import bitstream, tasks
from benchmarks.evaluation.scoring import total_score
from benchmarks.training import Recipe, fit
from methods import jsvd
from methods.baselines import l1_filter, magnitude
from methods.families.grid import OnGrid, step
from methods.interface import Budget


def rounded(weight: torch.Tensor, bits: int) -> torch.Tensor:
    size = float(step(weight.detach().numpy(), bits))
    return (weight.detach() / size).round() * size


def test_steps_change_exact_weights_by_gradients_of_rounded_ones() -> None:
    """Two steps by hand: w ← w − lr · ∂loss/∂q(w)."""
    layer = nn.Linear(3, 2, bias=False)
    exact, inputs = layer.weight.detach().clone(), torch.randn(5, 3)
    callback, optimiser = OnGrid(layer, 3), torch.optim.SGD(layer.parameters(), lr=0.3)
    callback.before_epoch(0, optimiser)
    for _ in range(2):
        torch.testing.assert_close(layer.weight.detach(), rounded(exact, 3))
        optimiser.zero_grad()
        layer(inputs).square().mean().backward()
        gradient = layer.weight.grad.clone()  # type: ignore[union-attr]
        with torch.no_grad():
            callback.before_step(optimiser)
            optimiser.step()
            callback.after_step()
        exact -= 0.3 * gradient
    torch.testing.assert_close(layer.weight.detach(), rounded(exact, 3))


def test_a_tensor_of_two_layers_is_rounded_once() -> None:
    one, other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    other.weight = one.weight
    network, exact = nn.Sequential(one, other), one.weight.detach().clone()
    callback = OnGrid(network, 3)
    with torch.no_grad():
        callback.after_step()
        callback.before_step(torch.optim.SGD(network.parameters()))
    assert torch.equal(one.weight, exact)


class Stopped(MemoryRun):
    """A run that is killed after its first epoch."""

    def progress(self, message: str) -> None:
        if self.saved:
            raise KeyboardInterrupt


def test_training_on_the_grid_goes_on_where_it_stopped() -> None:
    task, recipe, found = tasks.load("digits", "digits_cnn"), Recipe(2, 0.01), []
    for saved in ({}, {"killed": {}}):
        if saved.pop("killed", None) is not None:
            network = task.reference()
            with pytest.raises(KeyboardInterrupt):
                fit(network, task, Stopped(Budget("short", 2.0), 0, saved), recipe, "train", None, OnGrid(network, 4))
            assert saved["train"]["epochs"] == 1
        network = task.reference()
        fit(network, task, MemoryRun(Budget("short", 2.0), 0, saved), recipe, "train", None, OnGrid(network, 4))
        found.append(network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert all(torch.equal(rounded(w, 4), w) for w in network.parameters() if w.ndim > 1)


@pytest.mark.parametrize(
    ("method", "config"),
    [
        (jsvd, {"ratios": (6.0,), "storage": "uniform", "bits": 3, "scheme": "rjsvd1"}),
        (magnitude, {"rounds": (0.5,)}),
        (l1_filter, {"targets": (0.3,), "bits": 3}),
    ],
)
def test_files_hold_the_network_that_was_trained(
    method: Any, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding for the file changes nothing any more, also on a coarse grid."""
    monkeypatch.setattr(magnitude, "BITS", 3)
    task, seen = tasks.load("digits", "digits_resnet"), []

    def noted(network: nn.Module, *rest: Any, **more: Any) -> None:
        fit(network, *rest, **more)
        seen.append(copy.deepcopy(network))

    for name, module in list(sys.modules.items()):
        if name.startswith("methods.") and getattr(module, "fit", None) is fit:
            monkeypatch.setattr(module, "fit", noted)
    (point,) = method.compress(task, method.Config(**config), MemoryRun(Budget("short", 0.2)))
    decoded, inputs = bitstream.decode(bitstream.encode(point)), task.prepare(task.validation.inputs[:100])
    with torch.no_grad():
        wanted = seen[-1](inputs)
        torch.testing.assert_close(decoded(inputs), wanted, rtol=0, atol=0.01 * float(wanted.abs().max()))
    assert total_score(decoded, task.validation, task) == pytest.approx(
        total_score(seen[-1], task.validation, task), abs=1
    )
