"""Magnitude pruning against plain loops: which weights go, how many, and that nothing else is changed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from torch import nn

from benchmarks import bitstream, networks, tasks
from benchmarks.tasks.kinds.classification import Classification
from methods.baselines import magnitude
from methods.interface import Budget

SCORES = ("global", "layer_normalised", "lamp")
every_score = pytest.mark.parametrize("score", SCORES)


def small() -> nn.Module:
    """Two layers of very different size and scale, so that each score removes other weights."""
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(5, 7))
    for layer, scale in ((network[0], 0.05), (network[3], 1.0)):
        layer.weight.data = scale * torch.randn(layer.weight.shape, generator=generator)  # type: ignore[operator,union-attr]
    return network


def scored(weights: dict[str, list[float]], score: str) -> dict[tuple[str, int], float]:
    """The score of each weight, from its definition."""
    found = {}
    for name, values in weights.items():
        norm = math.sqrt(sum(w * w for w in values))
        for place, w in enumerate(values):
            at_least = sum(v * v for v in values if v * v >= w * w)
            found[name, place] = {"global": abs(w), "layer_normalised": abs(w) / norm, "lamp": w * w / at_least}[score]
    return found


def lowest(network: nn.Module, score: str, sparsity: float) -> set[tuple[str, int]]:
    """The weights that have to go."""
    layers = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    weights = {f"{name}.weight": m.weight.flatten().tolist() for name, m in layers.items()}
    found = scored(weights, score)
    return set(sorted(found, key=lambda key: found[key])[: round(sparsity * len(found))])


@every_score
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.37, 0.5, 0.8, 0.96])
def test_the_lowest_scores_go_and_nothing_else(score: Any, sparsity: float) -> None:
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gone = lowest(network, score, sparsity)
    masks = magnitude.prune(network, score, sparsity)
    assert {
        (name, place) for name, mask in masks.items() for place in (~mask).flatten().nonzero()[:, 0].tolist()
    } == gone
    for name, tensor in network.state_dict().items():
        wanted = before[name].clone().flatten()
        for own, place in gone:
            if own == name:
                wanted[place] = 0
        assert torch.equal(tensor.flatten(), wanted), name


def test_equal_scores_go_in_order_until_the_share_is_reached() -> None:
    """As on a grid: training leaves many weights of equal magnitude."""
    network = nn.Sequential(nn.Linear(10, 10, bias=False))
    nn.init.constant_(network[0].weight, 0.5)
    (mask,) = magnitude.prune(network, "global", 0.37).values()
    assert (~mask).flatten().nonzero()[:, 0].tolist() == list(range(37))


def test_scores_by_hand() -> None:
    """(3, 4) has the norm 5; of (1, 2, 3), the squares at least as large add up to 14, 13 and 9."""
    pair, triple = torch.tensor([[3.0, -4.0]]), torch.tensor([[2.0, -3.0, 1.0]])
    assert magnitude._score(pair, "layer_normalised").flatten().tolist() == pytest.approx([0.6, 0.8])
    assert magnitude._score(triple, "global").flatten().tolist() == [2, 3, 1]
    assert magnitude._score(triple, "lamp").flatten().tolist() == pytest.approx([4 / 13, 1, 1 / 14])
    for score in SCORES:
        assert not magnitude._score(torch.zeros(1, 4), score).any()  # a layer of zeros has the lowest score, not NaN


def narrow() -> Classification:
    """The digits with a network of 274 weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = networks.build("digits_cnn", {"width": 2}).state_dict()
    digits = tasks.load("digits", "digits_cnn")
    assert isinstance(digits, Classification)
    return replace(digits, arguments={"width": 2}, load_state=lambda: state)


@every_score
def test_a_file_lacks_at_least_the_asked_share(score: Any) -> None:
    """What is pruned is zero in the file; beyond it, only values below half a step of the grid are."""
    task = narrow()
    config = magnitude.Config(score=score, sparsities=(0.3, 0.9), recalibrate=0)
    run = MemoryRun(Budget("post-training", 0.0))
    for compressed, sparsity in zip(magnitude.compress(task, config, run), config.sparsities, strict=True):
        decoded, reference = bitstream.decode(bitstream.encode(compressed)), task.reference()
        gone, zeros, total = lowest(reference, score, sparsity), 0, 0
        for name in ("0", "3", "7", "12"):
            stored, dense = (n.get_submodule(name).weight.detach().flatten().tolist() for n in (decoded, reference))  # type: ignore[union-attr,operator]
            step = max(map(abs, dense)) / 127
            for place, (value, before) in enumerate(zip(stored, dense, strict=True)):
                if (f"{name}.weight", place) in gone:
                    assert value == 0
                else:
                    assert value != 0 or abs(before) <= 0.5001 * step
            zeros, total = zeros + stored.count(0), total + len(stored)
        assert zeros >= len(gone) == round(sparsity * total) and total == 274


def test_a_batchnorm_takes_two_vectors() -> None:
    """Scale and shift in fp16, as with the other methods, and not also the mean and the variance."""
    task = narrow()
    point = next(magnitude.compress(task, magnitude.Config(recalibrate=0), MemoryRun(Budget("post-training", 0.0))))
    file = bitstream.encode(point)
    decoded = bitstream.decode(file)
    norms = [module for module in decoded.modules() if isinstance(module, nn.BatchNorm2d)]
    values = sum(2 * norm.num_features for norm in norms) + decoded.get_submodule("12").bias.numel()  # type: ignore[union-attr,operator]
    assert len(norms) == 3
    assert bitstream.bytes_by_role(file)["norm_bias"] == 2 * values
