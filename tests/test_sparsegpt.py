"""SparseGPT: the share of zeros, what feedback is worth, and the selection against a plain loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.evaluation.scoring import total_score
from methods.baselines import sparsegpt
from methods.families import feedback
from methods.families.curvature import Curvature
from methods.interface import Budget

SPARSITIES = (0.3, 0.8, 0.93)


def decoded(method: Any, network: str) -> list[nn.Module]:
    task, run = tasks.load("digits", network), MemoryRun(Budget("post-training", 0.0))
    return [
        bitstream.decode(bitstream.encode(p)) for p in method.compress(task, method.Config(sparsities=SPARSITIES), run)
    ]


def zeros(network: nn.Module) -> float:
    weights = [m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return float((torch.cat(weights) == 0).float().mean())


@pytest.mark.parametrize("network", ["digits_cnn", "digits_resnet"])
def test_each_point_has_its_share_of_zeros(network: str) -> None:
    task = tasks.load("digits", network)
    found = decoded(sparsegpt, network)
    assert [zeros(own) for own in found] == pytest.approx(SPARSITIES, abs=0.002)
    right = [total_score(own, task.validation, task) for own in found]
    assert right[0] >= total_score(task.reference(), task.validation, task) - 1 and right[0] > right[2]


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_outputs_change_less_than_without_feedback(share: float) -> None:
    """As many weights become zero, but others make up for them: the squared change of the outputs is less than half."""
    draws = torch.Generator().manual_seed(1)
    common = torch.randn(2000, 4, 1, generator=draws, dtype=torch.float64).expand(-1, -1, 9).flatten(1)
    inputs = common + 0.5 * torch.randn(2000, 36, generator=draws, dtype=torch.float64)  # neighbours are alike
    known = Curvature(torch.zeros(1, 36), inputs.T.mm(inputs)[None] / 2000, torch.ones(1, 16))
    weights = 20 * torch.randn(1, 16, 36, generator=draws, dtype=torch.float64)
    low, high = 0.0, 100.0
    for _ in range(20):
        least = (low + high) / 2
        pruned = feedback.rounded(weights, feedback.spread(known, 0.01), least=least)
        low, high = (least, high) if (pruned == 0).double().mean() < share else (low, least)
    smallest = weights.abs().flatten().sort().values[int((pruned == 0).sum())]
    plain = torch.where(weights.abs() < smallest, 0, weights.round())
    change = [float(((weights - own)[0] @ inputs.T).square().sum()) for own in (plain, pruned)]
    assert change[1] < 0.5 * change[0]


def test_a_weight_is_judged_after_the_errors_of_earlier_ones() -> None:
    """Against a loop over weights that solves for the later ones anew, as Optimal Brain Surgeon does."""
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 6, generator=draws, dtype=torch.float64) @ torch.randn(
        6, 6, generator=draws, dtype=torch.float64
    )
    known = Curvature(torch.zeros(1, 6), inputs.T.mm(inputs)[None] / 200, torch.ones(1, 4))
    weights = 3 * torch.randn(1, 4, 6, generator=draws, dtype=torch.float64)
    spread = feedback.spread(known, 0.01)
    covariance = known.covariance[0] + 0.01 * known.covariance[0].diagonal().mean() * torch.eye(6, dtype=torch.float64)
    for least in (0.0, 1.2, 2.5):
        wanted = torch.stack([by_hand(row, covariance, least) for row in weights[0]])
        assert torch.equal(feedback.rounded(weights, spread, least=least)[0], wanted)
    assert (wanted == 0).float().mean() > 0.3


def by_hand(row: Tensor, covariance: Tensor, least: float) -> Tensor:
    """One weight at a time; those that are left take the values with which the outputs change least."""
    row, codes = row.clone(), torch.zeros_like(row)
    for j in range(len(row)):
        codes[j] = row[j].round() if row[j].abs() >= least else 0.0
        later = slice(j + 1, len(row))
        change = torch.linalg.solve(covariance[later, later], covariance[later, j]) * (row[j] - codes[j])
        row[later] += change
    return codes
