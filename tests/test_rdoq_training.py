"""Training of `rdoq`: passes on the grid, straight-through gradients, learned steps and the price of bits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.training import fit
from methods.baselines import rdoq
from methods.baselines.rdoq.training import INSIDE, TEMPERATURE, OnSteps, Start, Terms, divergence
from methods.families import feedback
from methods.interface import Budget


def start(codes: Tensor, step: float = 0.5) -> Start:
    """Of a linear layer, with wanted numbers up to 0.8 from the integers."""
    wanted = codes + 0.8 * (2 * torch.rand(codes.shape, generator=torch.Generator().manual_seed(1)).double() - 1)
    return Start(codes, wanted, step, torch.tensor([[1.0], [2.0]]).double()[None], 1)


def linear() -> tuple[nn.Linear, OnSteps, Start]:
    layer, first = nn.Linear(3, 2), start(torch.tensor([[[1.0, -2, 0], [0, 3, -1]]]).double())
    return layer, OnSteps(layer, {"weight": first}), first


def test_it_starts_from_the_integers_it_is_given() -> None:
    layer, network, first = linear()
    (codes,), (scaled,) = network.codes(), network.scaled()
    assert torch.equal(codes, first.codes[0].float())
    expected = first.wanted.clamp(first.codes - INSIDE, first.codes + INSIDE)[0].float()
    torch.testing.assert_close(scaled, expected)
    inputs, steps = torch.randn(4, 3), torch.tensor([[0.5], [1.0]])
    torch.testing.assert_close(network(inputs), inputs @ (codes * steps).T + layer.bias)


def test_gradients_pass_through_rounding_and_reach_the_step() -> None:
    """Of a weight: that of its rounded value. Of a step: the sum of (q − w/s) · unit · gradient, over √(N · max q)."""
    layer, network, first = linear()
    inputs, slopes = torch.randn(4, 3), torch.randn(4, 2)
    (network(inputs) * slopes).sum().backward()
    expected = slopes.T @ inputs
    torch.testing.assert_close(layer.weight.grad, expected)
    (scaled,), units = network.scaled(), first.unit[0].float()
    of_step = (expected * units * (first.codes[0].float() - scaled.detach())).sum() / math.sqrt(6 * 3)
    torch.testing.assert_close(network.steps[0].grad, of_step)


def test_the_price_of_bits() -> None:
    """The mean over all weights of the bits for a unit of magnitude, times the magnitude before rounding."""
    layer, network, first = linear()
    terms = Terms(network, 3.0)
    terms.before_epoch(0, torch.optim.SGD(layer.parameters()))
    bits = feedback.bits_per_unit(first.codes.float(), 1)[0]
    (scaled,) = network.scaled()
    found = terms.loss_term(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    assert found is not None
    torch.testing.assert_close(found, 3 * (bits * scaled.abs()).mean())
    assert Terms(network, 0.0).loss_term(torch.zeros(1), torch.zeros(1), torch.zeros(1)) is None


def test_the_divergence_from_the_reference() -> None:
    """By hand, and added to the price: nothing where the outputs are the reference's."""
    layer, network, _ = linear()
    inputs, reference = torch.randn(4, 3), nn.Linear(3, 2)
    outputs, wanted = network(inputs), reference(inputs)
    p, q = (((logits / TEMPERATURE).softmax(1)) for logits in (wanted, outputs))
    by_hand = TEMPERATURE**2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(divergence(outputs, wanted), by_hand)
    assert float(divergence(wanted, wanted).detach()) == 0
    alone, both = Terms(network, 0.0, reference), Terms(network, 3.0, reference)
    both.before_epoch(0, torch.optim.SGD(layer.parameters()))
    found = [terms.loss_term(inputs, outputs, torch.zeros(4)) for terms in (alone, both)]
    priced = Terms(network, 3.0)
    priced.before_epoch(0, torch.optim.SGD(layer.parameters()))
    price = priced.loss_term(inputs, outputs, torch.zeros(4))
    assert found[0] is not None and found[1] is not None and price is not None
    torch.testing.assert_close(found[0], by_hand, rtol=0.02, atol=1e-3)  # the reference may run in bf16
    torch.testing.assert_close(found[1] - found[0], price, rtol=1e-3, atol=1e-4)
    assert not any(parameter.grad is not None for parameter in reference.parameters())


def files(budget: Budget, **settings: Any) -> tuple[nn.Module, int]:
    config = rdoq.Config(items=100, steps=(4.0,), short_steps=(4.0,), **settings)
    (point,) = rdoq.compress(tasks.load("digits", "digits_resnet"), config, MemoryRun(budget))
    data = bitstream.encode(point)
    return bitstream.decode(data), len(data)


@torch.no_grad()
def loss(network: nn.Module) -> float:
    task = tasks.load("digits", "digits_resnet")
    return float(task.loss(network(task.prepare(task.validation.inputs)), task.validation.targets))


@pytest.mark.parametrize("grid", ["tensor", "channel"])
def test_training_lowers_the_loss_at_about_the_same_size(grid: Any) -> None:
    before, large = files(Budget("post-training", 0.0), grid=grid)
    after, size = files(Budget("short", 4.0, 0.01), grid=grid, price=20.0)
    assert loss(after) < 0.7 * loss(before) and size < 1.02 * large


def test_a_high_price_gives_smaller_files() -> None:
    budget = Budget("short", 2.0, 0.01)
    assert files(budget, price=100.0)[1] < 0.95 * files(budget, price=0.0)[1]


@pytest.mark.parametrize("grid", ["tensor", "channel"])
def test_files_hold_the_network_that_was_trained(grid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task, seen = tasks.load("digits", "digits_resnet"), []
    inputs = task.prepare(task.validation.inputs[:50])

    def noted(network: nn.Module, *given: Any) -> None:
        fit(network, *given)
        seen.append(network(inputs))

    monkeypatch.setattr(rdoq, "fit", noted)
    found, _ = files(Budget("short", 1.0, 0.01), grid=grid)
    with torch.no_grad():
        torch.testing.assert_close(found(inputs), seen[0], rtol=0, atol=0.01 * float(seen[0].abs().max()))
