"""HAC: the rules of shared values against their definitions, their training, and the method as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_every_method import MemoryRun
from torch import nn

from benchmarks import bitstream, tasks
from benchmarks.evaluation import work
from methods import hac
from methods.hac.layers import kept, sources
from methods.hac.modules import HuffmanLinear
from methods.hac.sharing import PARTS, PRICES, _priced, clusters, probabilistic, shared, uniform
from methods.interface import Budget


def test_probabilistic_values_are_right_in_the_mean() -> None:
    """PWS is unbiased, and its values are quantiles. Wrong code that this finds: rounding to the nearest value."""
    weights = np.random.default_rng(0).standard_normal(50)
    total = np.zeros(50)
    for seed in range(4000):
        values, numbers = probabilistic(weights, 6, np.random.default_rng(seed))
        total += values[numbers]
    assert values.tolist() == pytest.approx(np.quantile(weights, np.linspace(0, 1, 6)))
    assert np.abs(total / 4000 - weights).max() < 5 * np.diff(values).max() / np.sqrt(4000)


def test_clusters_are_the_means_of_their_weights() -> None:
    weights = np.random.default_rng(0).standard_normal(3000)
    values, numbers = clusters(weights, 16, 500)
    nearest = np.abs(weights[:, None] - values).argmin(1)
    assert np.array_equal(numbers, nearest)
    every, own = np.concatenate([weights, np.zeros(500)]), np.concatenate([numbers, [np.abs(values).argmin()] * 500])
    assert values.tolist() == pytest.approx([every[own == j].mean() for j in range(len(values))])


def test_the_step_of_a_grid_is_the_smallest() -> None:
    weights = np.random.default_rng(0).standard_normal(300) * 0.1
    values, numbers = uniform(weights, 12)
    step = np.diff(values).min()
    grid = [1e-4 + 5e-4 * i for i in range(2000)]
    wanted = next(one for one in grid if len(np.unique(np.rint(weights / one))) <= 12)
    assert step == pytest.approx(wanted)
    assert np.abs(values[numbers] - weights).max() <= step / 2 + 1e-12


@pytest.mark.parametrize("price", [1.0, 0.05, 0.002])
def test_priced_clusters_are_those_of_all_costs(price: float) -> None:
    """Against the definition: every weight takes the centre of the lowest |w − c| − λ log p; then centres are means."""
    weights, most = np.sort(np.random.default_rng(0).standard_normal(400)), 10
    centres, bounds = _priced(weights, most, price)
    parts = np.split(weights, np.linspace(0, 400, PARTS * most + 1).round().astype(int)[1:-1])
    means, shares, before = np.array([own.mean() for own in parts]), np.array([len(own) / 400 for own in parts]), np.inf
    for _ in range(30):
        costs = np.abs(weights[:, None] - means) - price * np.log(shares)
        chosen = np.unique(costs.argmin(1), return_inverse=True)[1]
        cost = float(costs.min(1).mean())
        if chosen.max() < most or not cost < before:
            break
        before = cost
        means = np.array([weights[chosen == j].mean() for j in range(chosen.max() + 1)])
        shares = np.bincount(chosen) / 400
    assert np.array_equal(chosen, np.searchsorted(bounds, weights))
    assert centres.tolist() == pytest.approx([weights[chosen == j].mean() for j in range(chosen.max() + 1)])
    assert sorted(PRICES, reverse=True) == PRICES


@settings(max_examples=40, deadline=None)
@given(
    rule=st.sampled_from(["cws", "pws", "uq", "ecsq"]),
    most=st.sampled_from([1, 2, 3, 16, 100]),
    count=st.integers(1, 300),
    zeros=st.integers(0, 300),
    levels=st.sampled_from([0, 1, 4]),
)
def test_no_rule_gives_more_values_than_asked_for(rule: Any, most: int, count: int, zeros: int, levels: int) -> None:
    weights = np.random.default_rng(count).standard_normal(count)
    weights = np.round(weights * levels) if levels else weights
    values, numbers = shared(rule, weights, most, np.random.default_rng(0), zeros)
    assert 1 <= len(values) <= most and len(np.unique(values)) == len(values)
    assert numbers.shape == weights.shape and set(numbers.tolist()) == set(range(len(values)))
    if len(np.unique(weights)) <= most:
        assert np.array_equal(values[numbers], weights)


def test_the_gradient_of_a_value_is_the_sum_over_its_weights() -> None:
    """Over all layers of its group. Wrong code that this finds: the mean, or a parameter for each layer."""
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    masks = kept(network, ["0.weight", "2.weight"], 40)
    assert float(masks["0.weight"].float().mean()) == pytest.approx(0.6, abs=0.02)
    found = sources(network, [["0.weight", "2.weight"]], "cws", 3, np.random.default_rng(0))
    first, second = found["0.weight"], found["2.weight"]
    assert first.values is second.values and len(first.values) <= 3
    dense = {name: source().detach().requires_grad_() for name, source in found.items()}
    x = torch.randn(8, 6)
    torch.func.functional_call(network, dense, (x,)).square().sum().backward()
    torch.func.functional_call(
        network, {name: source() for name, source in found.items()}, (x,)
    ).square().sum().backward()
    for number in range(len(first.values)):
        total = sum(float(dense[n].grad[found[n].numbers == number + 1].sum()) for n in dense)  # type: ignore[index]
        assert float(first.values.grad[number]) == pytest.approx(total, rel=1e-4, abs=1e-6)  # type: ignore[index]
    assert all(torch.equal(source() != 0, masks[name]) for name, source in found.items())


@pytest.mark.parametrize("rule", ["cws", "ecsq"])
def test_training_keeps_zeros_and_the_number_of_values(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.load("digits", "digits_cnn")
    config = hac.Config(points=((60, 8, 50, 16),), rule=rule, cumulative=0.1, lr=0.02)
    (point,) = hac.compress(task, config, MemoryRun(Budget("short", 0.5)))
    network, before = bitstream.decode(bitstream.encode(point)), task.reference()
    for kind, most, share in ((nn.Linear, 8, 0.6), (nn.Conv2d, 16, 0.5)):
        weights = [m.weight for m in network.modules() if isinstance(m, kind)]
        every = torch.cat([weight.flatten() for weight in weights])
        assert len(every[every != 0].unique()) <= most
        assert float((every == 0).float().mean()) == pytest.approx(share, abs=0.05)
    note = point.notes["dense"]
    assert note["values"] <= 8 and set(note["psi"]) == {"hac", "shac", "csc", "map"}  # type: ignore[index,call-overload,operator]
    assert not torch.equal(before(torch.ones(1, 1, 8, 8)), network(torch.ones(1, 1, 8, 8)))


def test_compressed_in_memory_is_the_same_network() -> None:
    """Only the linear layers differ, and only in how their sums are rounded. The dictionary is in the file once."""
    task = tasks.load("digits", "digits_cnn")
    points = ((80, 8, 50, 16), (0, 4, 0, 0))
    run, memories = MemoryRun(Budget("post-training", 0)), ("dense", "compressed")
    files = [
        [bitstream.encode(point) for point in hac.compress(task, hac.Config(points=points, memory=memory), run)]
        for memory in memories
    ]
    x = torch.randn(5, 1, 8, 8)
    for dense, small in zip(*files, strict=True):
        one, other = bitstream.decode(dense), bitstream.decode(small)
        assert any(isinstance(module, HuffmanLinear) for module in other.modules())
        assert not any(isinstance(module, nn.Linear) for module in other.modules())
        torch.testing.assert_close(one(x), other(x), rtol=1e-4, atol=1e-4)
        assert work.followed(other, x).macs == work.followed(one, x).macs


@pytest.mark.parametrize(
    ("settings_", "reason"),
    [
        ({"points": ()}, "at least one"),
        ({"points": ((0, 0, 0, 0),)}, "neither prunes nor shares"),
        ({"points": ((50, 0, 0, 0),), "memory": "compressed"}, "because memory is 'compressed'"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings_: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        hac.Config(**settings_)


def test_a_point_that_changes_nothing_is_not_supported() -> None:
    task = tasks.load("california", "mlp_00")  # without a convolution
    assert hac.unsupported(task, hac.Config()) is None
    assert "prunes or shares" in str(hac.unsupported(task, hac.Config(points=((0, 0, 0, 16),))))
