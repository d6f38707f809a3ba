"""Additive quantisation: ratios as the field counts them, and codebooks that meet a ratio in bytes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import test_every_method
import torch

import benchmarks.vision  # noqa: F401  # makes torchvision importable
from benchmarks import bitstream, measure, tasks
from benchmarks.errors import MethodError
from methods import aq
from methods.aq import sizes
from methods.interface import Budget

torch.set_num_threads(1)
# Ratios of fp32 bytes of all parameters to codes, fp32 codebooks and raw rest, by (d, M), K = 256.
RATIOS = {
    (8, 1): (29.96, 24.07, 30.96, 31.85),
    (9, 2): (17.32, 15.08, 17.60, 17.95),
    (8, 2): (15.47, 13.69, 15.70, 15.96),
    (16, 4): (15.35, 13.06, 15.44, 15.94),
    (8, 3): (10.43, 9.56, 10.52, 10.65),
    (9, 4): (8.82, 8.15, 8.87, 8.98),
    (8, 4): (7.86, 7.35, 7.91, 7.99),
    (16, 8): (7.80, 6.99, 7.78, 7.98),
    (9, 5): (7.08, 6.63, 7.11, 7.19),
    (16, 9): (6.95, 6.26, 6.92, 7.09),
}


@pytest.mark.parametrize(("dimension", "books"), RATIOS)
def test_ratios_of_known_networks(dimension: int, books: int) -> None:
    for name, wanted in zip(
        ("resnet50", "mobilenet_v2", "resnet18", "vgg11_bn"), RATIOS[dimension, books], strict=True
    ):
        with torch.device("meta"):
            network = getattr(importlib.import_module("torchvision.models"), name)()
        assert sizes.counted_ratio(network, dimension, books, 256) == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("budget", [Budget("post-training", 0), Budget("short", 1.0)])
def test_files_are_the_largest_that_meet_a_ratio(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what entropy coding really leaves: the file of the next larger codes would be too large."""
    monkeypatch.setattr(sizes, "SIZES", (64, 32, 16))
    task: Any = tasks.load("digits", "digits_resnet")
    config = aq.Config(ratios=(3.0, 5.0), iterations=2)
    allowed = [measure.reference_bytes(task.reference()) / ratio for ratio in config.ratios]
    ascending = sorted(sizes.file_sizes(task, config).items(), key=lambda item: (item[1], item[0]))
    order = [point for point, _ in ascending]
    made = list(aq.compress(task, config, test_every_method.MemoryRun(budget)))
    assert [compressed.point["ratio"] for compressed in made] == [3.0, 5.0]
    for compressed, most in zip(made, allowed, strict=True):
        books, codewords = compressed.point["books"], compressed.point["codewords"]
        following = aq.Config(points=(order[order.index((books, codewords)) + 1],), iterations=2)
        (larger,) = aq.compress(task, following, test_every_method.MemoryRun(Budget("post-training", 0)))
        assert len(bitstream.encode(compressed)) <= most < len(bitstream.encode(larger))


def test_sizes_are_told_exactly_where_entropy_coding_gains_nothing() -> None:
    task: Any = tasks.load("digits", "digits_cnn")
    config = aq.Config()
    layers = sizes.collect(sizes.weights(task.reference()), 8, "layer")
    count = sum(len(layer.vectors) for layer in layers)
    generator = torch.Generator().manual_seed(0)
    for books, size in ((1, 64), (3, 128), (5, 256)):
        codes = torch.randint(size, (count, books), generator=generator).numpy()
        words = torch.randn(books, size, 8, generator=generator).numpy()
        part = sizes.described(sizes.Book(layers, words, codes), config)
        found = len(bitstream.encode(sizes.describe(task, task.reference(), [part], {})))
        assert sizes.file_sizes(task, config)[books, size] == pytest.approx(found, abs=40)


def test_a_ratio_out_of_reach_is_an_error() -> None:
    task: Any = tasks.load("digits", "digits_cnn")
    with pytest.raises(
        MethodError, match=r"a ratio of 500\.0 can't be reached with vectors of 8 values: take longer ones"
    ):
        sizes.points_at((500.0,), task, aq.Config(), lambda _: 0)


@pytest.mark.parametrize("changes", [{"parts": 3}, {"pruned": 0.5}, {"ratios": (0.5,)}])
def test_ratios_are_for_the_whole_network(changes: dict[str, Any]) -> None:
    task: Any = tasks.load("digits", "digits_cnn")
    config = aq.Config(**{"ratios": (3.0,), **changes})
    assert aq.unsupported(task, config) == "ratios have to be above 1, with one part and nothing pruned"
