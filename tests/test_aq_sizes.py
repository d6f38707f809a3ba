"""Additive quantisation: the files of its points and their sizes, ratios, and what can't be quantised."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from typing import Any

import msgspec
import numpy as np
import pytest
import test_every_method
import torch
from torch import nn

import benchmarks.data.vision  # noqa: F401  # makes torchvision importable
from benchmarks import bitstream, tasks
from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from methods import aq
from methods.aq import sizes
from methods.aq.quantizer import Search
from methods.baselines import pq, rvq
from methods.families.codebooks import collect, weights
from methods.families.description import describe
from methods.families.slim import Slim
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


def counted_ratio(network: nn.Module, dimension: int, books: int, size: int) -> float:
    """Bits of all parameters in fp32 / bits of codes, fp32 codebooks and scales, and raw other values.

    How the paper counts is unknown: this is one interpretation. Only shapes are used: the network may be on the `meta`
    device.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    total = sum(p.numel() for p in network.parameters())
    vectors = sum(-(-layer.weight.numel() // dimension) for layer in layers)
    raw = total - sum(layer.weight.numel() for layer in layers)
    codes = vectors * books * (size - 1).bit_length()
    return 32 * total / (codes + 32 * (books * size * dimension + len(layers) + raw))


@pytest.fixture(autouse=True)
def _few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aq, "Search", functools.partial(Search, iterations=2))


@pytest.mark.parametrize(("dimension", "books"), RATIOS)
def test_ratios_of_known_networks(dimension: int, books: int) -> None:
    for name, wanted in zip(
        ("resnet50", "mobilenet_v2", "resnet18", "vgg11_bn"), RATIOS[dimension, books], strict=True
    ):
        with torch.device("meta"):
            network = getattr(importlib.import_module("torchvision.models"), name)()
        assert counted_ratio(network, dimension, books, 256) == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("budget", [Budget("post-training", 0), Budget("short", 1.0)])
def test_files_are_the_largest_that_meet_a_ratio(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what entropy coding really leaves: the file of the next larger codes would be too large."""
    monkeypatch.setattr(sizes, "SIZES", (64, 32, 16))
    task: Any = tasks.load("digits", "digits_resnet")
    config = aq.Config(ratios=(3.0, 5.0))
    allowed = [task.uncompressed_bytes / ratio for ratio in config.ratios]
    ascending = sorted(sizes.file_sizes(task, config).items(), key=lambda item: (item[1], item[0]))
    order = [point for point, _ in ascending]
    made = list(aq.compress(task, config, test_every_method.MemoryRun(budget)))
    assert [compressed.point["ratio"] for compressed in made] == [3.0, 5.0]
    for compressed, most in zip(made, allowed, strict=True):
        books, codewords = compressed.point["books"], compressed.point["codewords"]
        following = aq.Config(points=(order[order.index((books, codewords)) + 1],))
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
        part = sizes.described(sizes.Book(layers, words, codes))
        found = len(bitstream.encode(describe(task, task.reference(), Slim(), [part], {})))
        assert sizes.file_sizes(task, config)[books, size] == pytest.approx(found, abs=40)


def test_a_ratio_out_of_reach_is_an_error() -> None:
    task: Any = tasks.load("digits", "digits_cnn")
    with pytest.raises(
        MethodError, match=r"a ratio of 500\.0 can't be reached with vectors of 8 values: take longer ones"
    ):
        sizes.points_at((500.0,), task, aq.Config(), lambda _: 0)


@pytest.mark.parametrize("changes", [{"parts": 3}, {"parts": 0}, {"pruned": 0.5}])
def test_ratios_are_for_the_whole_network(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="ratios need parts 1 and pruned 0"):
        msgspec.convert({"ratios": (3.0,), **changes}, aq.Config)


def points_of(method: Any, config: Any, budget: Budget | None = None) -> list[Any]:
    run = test_every_method.MemoryRun(budget or Budget("post-training", 0.0))
    return list(method.compress(tasks.load("digits", "digits_cnn"), config, run))


def test_the_file_has_the_size_of_the_formula() -> None:
    (point,) = points_of(aq, aq.Config(points=((2, 64),)))
    roles = bitstream.bytes_by_role(bitstream.encode(point))
    network = tasks.load("digits", "digits_cnn").reference()
    n = sum(-(-w.size // 8) for w in weights(network).values())
    assert roles["codebooks"] == 2 * 64 * 8 * 2 + 4 * len(weights(network))
    assert roles["indices"] <= -(-n * 2 * 6 // 8) + 2 * 4
    norms = sum(2 * m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)) + 10
    assert roles["norm_bias"] == 2 * norms


def test_a_pruned_network_pays_for_its_mask() -> None:
    settings: dict[str, Any] = {"points": ((2, 64),), "pruned": 0.5}
    (survivors,) = points_of(aq, aq.Config(keep="survivors", **settings))
    (dense,) = points_of(aq, aq.Config(keep="dense", **settings))
    total = sum(w.size for w in weights(tasks.load("digits", "digits_cnn").reference()).values())
    decoded = {name: bitstream.decode(bitstream.encode(p)) for name, p in (("survivors", survivors), ("dense", dense))}
    zeros = {name: sum(int((w == 0).sum()) for w in weights(network).values()) for name, network in decoded.items()}
    assert zeros["survivors"] == pytest.approx(total / 2, abs=2) and zeros["dense"] < total / 4
    sizes = {
        name: bitstream.bytes_by_role(bitstream.encode(p))["indices"] for name, p in (("s", survivors), ("d", dense))
    }
    assert sizes["s"] == pytest.approx(sizes["d"] / 2 + total / 8, rel=0.05)  # half the codes and a bit for each weight


def test_separate_parts_have_codebooks_of_their_own() -> None:
    (whole,) = points_of(aq, aq.Config(points=((2, 16),)))
    (layers,) = points_of(aq, aq.Config(points=((2, 16),), parts=0))
    count = len(weights(tasks.load("digits", "digits_cnn").reference()))
    books = [sum(part.codec == "codebook" for part in point.parts) for point in (whole, layers)]
    assert books == [1, count]


@pytest.mark.parametrize(
    ("method", "changes", "complaint"),
    [
        (aq, {"points": ((2, 5000),)}, "<= 4096 - at `$.points[0][1]`"),
        (aq, {"points": ((65, 16),)}, "<= 64 - at `$.points[0][0]`"),
        (aq, {"points": ((2, 1),)}, ">= 2 - at `$.points[0][1]`"),
        (aq, {"points": ()}, "points and short_points need at least one pair each"),
        (aq, {"short_points": ()}, "points and short_points need at least one pair each"),
        (aq, {"short_points": ((0, 16),)}, ">= 1 - at `$.short_points[0][0]`"),
        (aq, {"points": ((64, 4096),)}, "16,384 codewords in all"),
        (aq, {"short_points": ((64, 4096),)}, "16,384 codewords in all"),
        (aq, {"pruned": 1.0}, "< 1.0 - at `$.pruned`"),
        (aq, {"pruned": -0.1}, ">= 0.0 - at `$.pruned`"),
        (aq, {"pruned": float("nan")}, "at `$.pruned`"),
        (aq, {"parts": -1}, ">= 0 - at `$.parts`"),
        (aq, {"ratios": (1.0,)}, "> 1.0 - at `$.ratios[0]`"),
        (aq, {"ratios": (float("nan"),)}, "at `$.ratios[0]`"),
        (aq, {"keep": "nothing"}, "Invalid enum value 'nothing' - at `$.keep`"),
        (rvq, {"dimension": 0}, ">= 1 - at `$.dimension`"),
        (rvq, {"points": ()}, "points and short_points need at least one pair each"),
        (pq, {"points": ((0, 16),)}, ">= 1 - at `$.points[0][0]`"),
        (pq, {"scale": "block"}, "Invalid enum value 'block' - at `$.scale`"),
        (pq, {"recalibrate": -1}, ">= 0 - at `$.recalibrate`"),
        (pq, {"batch": 0}, ">= 1 - at `$.batch`"),
    ],
)
def test_settings_that_can_not_be_followed_are_refused(method: Any, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(complaint)):
        msgspec.convert(changes, method.Config)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"points": ((1, 4096),)}, "4096 codewords for 1786 vectors are too many"),
        ({"dimension": 500}, r"vectors of 500 values are longer than 0\.weight with 144"),
        ({"skip": ("nowhere",)}, "skip names nowhere, which is no convolution or linear layer"),
    ],
)
def test_what_does_not_fit_the_network_is_a_sentence(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MethodError, match=complaint):
        points_of(aq, aq.Config(**{"points": ((1, 16),), **changes}))


@pytest.mark.parametrize(
    ("value", "complaint"), [(0.5, "is constant: it has no scale"), (float("nan"), "NaN or infinite")]
)
def test_layers_that_can_not_be_quantised_are_named(value: float, complaint: str) -> None:
    found = dict(weights(tasks.load("digits", "digits_cnn").reference()))
    found["3.weight"] = np.full_like(found["3.weight"], value)
    with pytest.raises(MethodError, match=f"3.weight {complaint}|3.weight has {complaint}"):
        collect(found, 8, "layer")


def test_a_layer_of_constant_channels_has_no_scale() -> None:
    found = dict(weights(tasks.load("digits", "digits_cnn").reference()))
    found["3.weight"] = np.broadcast_to(found["3.weight"][:, :1, :1, :1], found["3.weight"].shape)
    with pytest.raises(MethodError, match=r"3\.weight is constant"):
        collect(found, 8, "channel")


@pytest.mark.parametrize("budget", [Budget("post-training", 0.0), Budget("short", 0.2)])
def test_skipped_layers_stay_in_half_precision(budget: Budget) -> None:
    settings = aq.Config(points=((1, 16),), short_points=((1, 16),), skip=("0",))
    (point,) = points_of(aq, settings, budget)
    decoded = bitstream.decode(bitstream.encode(point))
    reference = tasks.load("digits", "digits_cnn").reference()
    assert torch.equal(decoded.get_parameter("0.weight"), reference.get_parameter("0.weight").half().float())
    assert set(blueprint.state(decoded)) == set(blueprint.state(reference))


def test_codebooks_in_half_precision_hardly_change_what_the_network_says() -> None:
    task = tasks.load("digits", "digits_cnn")
    x = task.prepare(task.validation.inputs[:64])
    (point,) = points_of(aq, aq.Config(points=((2, 64),)))
    (part,) = (part for part in point.parts if part.codec == "codebook")
    others = tuple(other for other in point.parts if other is not part)
    assert part.data["dtype"] == "float16"
    outputs = []
    for dtype in ("float32", "float16"):
        stored = dataclasses.replace(part, data={**part.data, "dtype": dtype})
        point = dataclasses.replace(point, parts=(stored, *others))
        with torch.inference_mode():
            outputs.append(bitstream.decode(bitstream.encode(point))(x))
    assert 0 < float((outputs[0] - outputs[1]).abs().max()) < 1e-3 * float(outputs[0].abs().max())


def test_pruning_that_empties_a_layer_is_blamed_itself() -> None:
    with pytest.raises(MethodError, match=r"pruning a share of 0.9995 leaves nothing of 0.weight: prune less"):
        points_of(aq, aq.Config(points=((1, 2),), pruned=0.9995))
