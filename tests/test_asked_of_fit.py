"""What each method asks of `fit` over a whole curve: epochs and learning rate of the budget, and the network it starts from."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import test_every_method as kit
import torch
from torch import nn

import methods
from benchmarks import training
from methods.interface import Budget

MARK = 1.0
# The bias of the classifier is coded by no method so coarsely that a mark on it could be overlooked.
CONTINUE = {"magnitude", "surp", "l1_filter", "sfp", "fpgm", "random_filter", "torch_pruning", "psap", "hierarchical"}
ANEW = {"rdoq", "aq", "pq", "rvq", "svd", "tucker", "jsvd", "tensor_reordering", "approxconv"}
trained = pytest.mark.parametrize("key", [k for k in methods.names() if "short" in methods.get(k).CARD.budgets])


@dataclass
class Asked:
    """One call of `fit`: its stage, its epochs, and the classifier's mean bias at its beginning."""

    stage: str
    epochs: float
    bias: float


def classifier_bias(network: nn.Module) -> torch.Tensor:
    return [parameter for name, parameter in network.named_parameters() if name.endswith("bias")][-1]


def replace_fit(patch: pytest.MonkeyPatch, fit: Callable[..., None]) -> None:
    """Let all methods call `fit` in the place of the training loop."""
    for name, module in list(sys.modules.items()):
        if name.startswith("methods.") and getattr(module, "fit", None) is training.fit:
            patch.setattr(module, "fit", fit)


def asked(key: str, budget: Budget, patch: pytest.MonkeyPatch) -> list[list[Asked]]:
    """The calls of each point; instead of training, `fit` adds MARK to the classifier's bias."""
    calls: list[Asked] = []

    @torch.no_grad()
    def fit(
        network: Any,
        task: Any,
        run: Any,
        recipe: Any,
        stage: str,
        masks: Any = None,
        callback: Any = None,
        _: Any = None,
    ) -> None:
        bias = classifier_bias(network)
        calls.append(Asked(stage, recipe.epochs, float(bias.mean())))
        bias.add_(MARK)
        for _ in range(math.ceil(recipe.epochs * math.ceil(len(task.train) / recipe.batch)) if callback else 0):
            callback.after_step()

    replace_fit(patch, fit)
    points = []
    for _ in kit.points(key, kit.MemoryRun(budget)):
        points.append(calls.copy())
        calls.clear()
    return points


@trained
def test_each_point_has_the_epochs_of_the_budget(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the recipes themselves; each call has a name of its own, under which it is resumed."""
    budget = Budget("short", 2.5)
    points = asked(key, budget, monkeypatch)
    epochs = [sum(call.epochs for call in calls) for calls in points]
    assert epochs == pytest.approx(kit.config_of(key).operating_points(budget))
    assert epochs == pytest.approx([budget.epochs] * len(epochs))
    stages = [call.stage for calls in points for call in calls]
    assert len(set(stages)) == len(stages)


@trained
def test_retraining_starts_from_the_point_before_or_always_from_the_reference(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kit.FEWER, "surp", {"short_sparsities": [0.5, 0.8]})  # it codes what it trains again
    reference = float(classifier_bias(kit.task_for(key).reference()).detach().mean())
    calls = [call for calls in asked(key, Budget("short", 2.5), monkeypatch) for call in calls]
    marks = [(call.bias - reference) / MARK for call in calls]
    continued, anew = list(range(len(calls))), [0] * len(calls)
    if key in CONTINUE:
        assert marks == pytest.approx(continued, abs=0.2)
    elif key in ANEW:
        assert marks == pytest.approx(anew, abs=0.2)
    else:  # of random weights, or a method that decides for itself
        assert len(calls) > 1


@trained
def test_the_learning_rate_of_the_budget_is_used(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all parameters; without one, the method has its own."""
    seen: dict[float | None, set[float]] = {}
    for chosen in (None, 0.00321):
        rates = seen.setdefault(chosen, set())

        @torch.no_grad()
        def fit(
            network: Any, task: Any, run: Any, recipe: Any, *more: Any, rates: set[float] = rates, **named: Any
        ) -> None:
            rates.add(recipe.lr)
            callback = named.get("callback") or next((one for one in more if isinstance(one, training.Callback)), None)
            for _ in range(math.ceil(recipe.epochs * math.ceil(len(task.train) / recipe.batch)) if callback else 0):
                callback.after_step()

        with monkeypatch.context() as patch:
            replace_fit(patch, fit)
            for _ in kit.points(key, kit.MemoryRun(Budget("short", 1.0, chosen))):
                pass
    assert seen[0.00321] == {0.00321} and 0.00321 not in seen[None] and seen[None]
