"""ApproxConv: bases, least squares, the two forms of a layer, orders and numbers of parameters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_every_method import MemoryRun
from torch import nn

from benchmarks import bitstream, tasks
from benchmarks.bitstream import blueprint
from benchmarks.evaluation import measure
from benchmarks.papers import accounting, reported
from benchmarks.training import SGD
from methods import approxconv
from methods.approxconv import Synthesis, _recipe, modules
from methods.approxconv.bases import approximated, functions, principal
from methods.approxconv.layers import orders, parameters
from methods.interface import Budget

SERIES: tuple[Any, ...] = ("cosine", "chebyshev", "dct")
ALL: tuple[Any, ...] = (*SERIES, "pca")
POST_TRAINING, SHORT = Budget("post-training", 0.0), Budget("short", 0.1)


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def points(config: Any, budget: Budget = POST_TRAINING, network: str = "digits_resnet") -> list[Any]:
    return list(approxconv.compress(tasks.load("digits", network), config, MemoryRun(budget)))


# Bases and least squares


def test_series_are_those_of_the_official_code() -> None:
    assert functions("cosine", 3, 3) == pytest.approx(
        np.cos(np.outer([0, 1, 2], np.array([0.2, 0.5, 0.8]) * math.pi)), abs=1e-15
    )
    u = np.linspace(-1, 1, 7)
    expected = np.cos(np.arange(7)[:, None] * np.arccos(u))
    assert functions("chebyshev", 7, 7) == pytest.approx(expected, abs=1e-12)
    assert functions("chebyshev", 7, 7)[6] == pytest.approx(32 * u**6 - 48 * u**4 + 18 * u**2 - 1, abs=1e-12)
    dct = functions("dct", 5, 5)
    assert dct @ dct.T == pytest.approx(np.eye(5), abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "order", "size", "condition"),
    [
        *(("cosine", 2, 3, 1.51), ("cosine", 6, 7, 11.9), ("cosine", 7, 7, 27.5)),
        *(("chebyshev", 2, 3, 1.22), ("chebyshev", 6, 7, 2.20), ("chebyshev", 7, 7, 3.87)),
    ],
)
def test_condition_numbers(kind: Any, order: int, size: int, condition: float) -> None:
    assert np.linalg.cond(functions(kind, order, size)) == pytest.approx(condition, rel=5e-3)


def projector(kind: Any, order: int, size: int) -> Any:
    values = functions(kind, order, size)
    return np.linalg.pinv(values) @ values


def test_cosines_and_polynomials_of_order_two_span_the_same_for_three_samples_only() -> None:
    assert projector("cosine", 2, 3) == pytest.approx(projector("chebyshev", 2, 3), abs=1e-15)
    kernel = normal(4, 3, 3, 3)
    made = [approximated(kernel, kind, 2).kernel() for kind in SERIES]
    assert made[0] == pytest.approx(made[1], abs=1e-6) and made[0] == pytest.approx(made[2], abs=1e-6)
    for order, difference in ((2, 0.023), (4, 0.052), (6, 0.056)):
        apart = projector("cosine", order, 7) - projector("chebyshev", order, 7)
        assert np.abs(apart).max() == pytest.approx(difference, abs=6e-4)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("size", [3, 7])
def test_the_full_order_gives_the_kernel(kind: Any, size: int) -> None:
    kernel = normal(4, 3, size, size)
    found = approximated(kernel, kind, size)
    exact = found.coefficients.reshape(12, -1) @ found.filters
    assert exact.reshape(kernel.shape) == pytest.approx(kernel, abs=1e-12 if kind in SERIES else 1e-5)
    assert found.kernel() == pytest.approx(kernel, abs=1e-5)


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize(("size", "order"), [(3, 2), (7, 4)])
def test_the_residual_is_orthogonal_to_the_basis(kind: Any, size: int, order: int) -> None:
    """So that no coefficients have a smaller error; with the two matrices of the definition."""
    kernel = normal(5, 2, size, size).astype(np.float64)
    found = approximated(kernel, kind, order)
    b = functions(kind, order, size).T
    assert b @ found.coefficients @ b.T == pytest.approx(found.kernel(), abs=1e-6)
    assert b.T @ (kernel - b @ found.coefficients @ b.T) @ b == pytest.approx(np.zeros((5, 2, order, order)), abs=1e-10)
    inverse = np.linalg.pinv(b)
    assert found.coefficients == pytest.approx(inverse @ kernel @ inverse.T, abs=1e-10)


@pytest.mark.parametrize(("size", "order"), [(3, 2), (7, 6), (7, 4)])
def test_noise_keeps_the_share_of_its_energy_that_it_keeps_of_its_values(size: int, order: int) -> None:
    kernel = normal(64, 64, size, size)
    kept = np.square(approximated(kernel, "cosine", order).kernel()).sum() / np.square(kernel).sum()
    assert kept == pytest.approx((order / size) ** 2, abs=0.01)


def test_no_filters_fit_better_than_the_principal_ones() -> None:
    kernel = normal(32, 8, 3, 3) @ normal(3, 3, seed=1)
    slices = kernel.reshape(-1, 9)
    own = principal(slices, 4)
    assert own @ own.T == pytest.approx(np.eye(4), abs=1e-6)
    left = np.linalg.svd(slices, compute_uv=False)[4:]
    errors = {kind: np.square(approximated(kernel, kind, 2).kernel() - kernel).sum() for kind in ALL}
    assert errors["pca"] == pytest.approx(np.square(left).sum(), rel=1e-4)
    assert errors["pca"] < min(errors[kind] for kind in SERIES)


@pytest.mark.parametrize("kind", ALL)
def test_the_gradient_of_coefficients_is_the_adjoint(kind: Any) -> None:
    source = Synthesis(approximated(normal(3, 2, 5, 5), kind, 3)).double()
    upstream = torch.from_numpy(normal(3, 2, 5, 5, seed=1).astype(np.float64))
    (source() * upstream).sum().backward()
    expected = upstream.numpy().reshape(6, 25) @ source.filters.numpy().T
    if kind in SERIES:
        b = functions(kind, 3, 5).T
        assert expected.reshape(3, 2, 3, 3) == pytest.approx(b.T @ upstream.numpy() @ b, abs=1e-6)
    assert source.coefficients.grad is not None
    assert source.coefficients.grad.numpy().reshape(6, 9) == pytest.approx(expected, abs=1e-12)


def test_kernels_are_trained_as_exactly_as_they_are_stored() -> None:
    found = approximated(normal(8, 4, 7, 7), "cosine", 6)
    with torch.autocast("cpu", torch.bfloat16):
        made = Synthesis(found)()
    assert made.dtype == torch.float32
    assert np.abs(made.detach().numpy() - found.kernel()).max() <= 1e-4 * np.abs(found.kernel()).max()


def test_a_resumed_training_keeps_the_filters_of_its_checkpoint() -> None:
    """Those that another process computes may differ, and the coefficients belong to the first ones."""
    kernel = normal(8, 4, 3, 3)
    first, again = approximated(kernel, "pca", 2), approximated(kernel, "pca", 2)
    assert again.own is not None
    again = replace(again, own=-again.own)
    source = Synthesis(again)
    source.load_state_dict(Synthesis(first).state_dict())
    assert np.abs(source.trained(again).kernel() - first.kernel()).max() < 1e-5
    assert Synthesis(approximated(kernel, "dct", 2)).trained(approximated(kernel, "dct", 2)).own is None


# The two forms of a layer


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(ALL),
    size=st.integers(2, 5),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_mixed_channels_are_the_convolution_with_the_kernel(
    kind: Any, size: int, stride: Any, padding: Any, dilation: Any, groups: int, bias: bool
) -> None:
    layer = nn.Conv2d(4, 8, size, stride, padding, dilation, groups, bias)
    found = approximated(normal(8, 4 // groups, size, size), kind, size - 1)
    spec = modules.spec(layer, found.order, kind)
    mixed = modules.build(spec.arguments, [])
    with torch.no_grad():
        mixed.coefficients.copy_(torch.from_numpy(found.coefficients))
        layer.weight.copy_(torch.from_numpy(found.kernel()))
        if kind == "pca":
            mixed.filters.copy_(torch.from_numpy(found.filters).reshape(-1, size, size))
        if bias:
            mixed.bias.copy_(layer.bias)
    x = torch.from_numpy(normal(2, 4, 12, 11))
    assert torch.allclose(mixed.double()(x.double()), layer.double()(x.double()), atol=1e-5)


@pytest.mark.parametrize("kind", ["cosine", "pca"])
@pytest.mark.parametrize(("inputs", "stride"), [(16, 1), (16, 2), (1, 1)])
def test_multiplications_are_those_of_the_modules(kind: Any, inputs: int, stride: int) -> None:
    layer = nn.Conv2d(inputs, 32, 3, stride, 1)
    mixed = modules.build(modules.spec(layer, 2, kind).arguments, [])
    x = torch.zeros(1, inputs, 32, 32)
    counted = tuple(measure.macs(module, x) * stride**2 // 32**2 for module in (layer, mixed))
    assert counted == modules.multiplications(layer, 2, kind)


def test_a_layer_keeps_its_kernel_where_mixing_would_cost_more() -> None:
    assert [c < d for d, c in (modules.multiplications(nn.Conv2d(32, n, 3), 2, "cosine") for n in (32, 2))] == [
        True,
        False,
    ]
    depthwise = nn.Conv2d(32, 32, 3, groups=32)
    assert modules.multiplications(depthwise, 2, "cosine")[0] < modules.multiplications(depthwise, 2, "cosine")[1]
    (point,) = points(approxconv.Config(points=((2,),), form="channels"))
    assert point.notes["channels"] == list(point.edits) and "conv1" in point.edits


def test_both_forms_are_one_function_with_fewer_multiplications() -> None:
    task = tasks.load("digits", "digits_resnet")
    example = task.prepare(task.validation.inputs[:8])
    for basis in ("chebyshev", "pca"):
        config = approxconv.Config(points=((2,),), basis=basis)  # type: ignore[arg-type]
        kernels, channels = (
            bitstream.decode(bitstream.encode(points(form)[0])) for form in (config, replace(config, form="channels"))
        )
        assert torch.allclose(kernels(example), channels(example), atol=0.05, rtol=0.01)
        dense, fewer = (measure.macs(network, example) for network in (kernels, channels))
        assert dense == measure.macs(task.reference(), example) and fewer < 0.75 * dense


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "sine"}, "kind has to be cosine, chebyshev, dct or pca"),
        ({"order": 4}, "order has to be at most size"),
        ({"groups": 3}, "groups has to divide the channels"),
        ({"size": 17}, "size has to be an integer from 1 to 16"),
        ({"steps": 1}, "it takes no argument 'steps'"),
    ],
)
def test_a_module_that_can_not_be_built_is_refused(change: dict[str, Any], complaint: str) -> None:
    arguments = {**modules.spec(nn.Conv2d(4, 8, 3), 2, "cosine").arguments, **change}
    with pytest.raises((ValueError, TypeError), match=complaint):
        modules.build(arguments, [])


# Layers, orders and numbers of parameters


@pytest.mark.parametrize(
    ("architecture", "arguments", "point", "expected"),
    [
        ("resnet", {"depth": 18}, (7, 3, 3, 3, 3), 11.690e6),
        ("resnet", {"depth": 18}, (4, 2, 2, 2, 2), 5.580e6),
        ("resnet", {"depth": 18}, (6, 2, 2, 2, 2), 5.584e6),
        ("resnet", {"depth": 18}, (6, 3, 3, 2, 2), 5.953e6),
        ("resnet", {"depth": 18}, (6, 3, 3, 3, 2), 7.099e6),
        ("cifar_resnet", {"depth": 20}, (3, 3, 3, 3), 269_722),
        ("cifar_resnet", {"depth": 20}, (3, 3, 3, 2), 157_082),
        ("cifar_resnet", {"depth": 20}, (3, 3, 2, 2), 128_922),
        ("cifar_resnet", {"depth": 20}, (3, 2, 2, 2), 121_242),
        ("cifar_resnet", {"depth": 20}, (2, 2, 2, 2), 121_002),
        ("cifar_resnet", {"depth": 32}, (3, 3, 3, 3), 464_154),
        ("cifar_resnet", {"depth": 32}, (3, 3, 3, 2), 269_594),
        ("cifar_resnet", {"depth": 32}, (3, 3, 2, 2), 220_954),
        ("cifar_resnet", {"depth": 32}, (3, 2, 2, 2), 208_154),
        ("cifar_resnet", {"depth": 32}, (2, 2, 2, 2), 207_914),
    ],
)
def test_parameters_of_networks_by_their_orders(architecture: str, arguments: Any, point: Any, expected: float) -> None:
    network = blueprint.skeleton(architecture, arguments, {}, {})
    counted = parameters(network, orders(network, point))
    assert counted == (expected if expected < 1e6 else pytest.approx(expected, abs=500))


@pytest.mark.parametrize(("order", "expected"), [(7, 324_576), (6, 238_464), (5, 165_600)])
def test_depthwise_kernels_of_a_larger_window(order: int, expected: int) -> None:
    """ConvNeXt-T: 3, 3, 9 and 3 blocks of 96, 192, 384 and 768 channels; its stem is left out."""
    widths = [96] * 3 + [192] * 3 + [384] * 9 + [768] * 3
    network = nn.Sequential(*(nn.Conv2d(n, n, 7, padding=3, groups=n, bias=False, device="meta") for n in widths))
    assert parameters(network, orders(network, (order,))) == expected


def test_large_windows_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 16), nn.Conv2d(1, 1, 17))
    assert orders(network, (2,)) == {"0": 2}


def test_orders_belong_to_stages() -> None:
    resnet = blueprint.skeleton("resnet", {"depth": 18}, {}, {})
    found = orders(resnet, (6, 3, 2, 2, 1))
    assert found["conv1"] == 6 and found["layer2.0.conv2"] == 2 and found["layer4.1.conv2"] == 1
    assert not [path for path in found if path.startswith("layer1") or "downsample" in path]
    assert orders(resnet, (2,))["conv1"] == 2 and orders(resnet, (3, 2))["layer4.0.conv1"] == 2
    vgg = blueprint.skeleton("vgg", {"depth": 11, "norm": True}, {}, {})
    assert list(orders(vgg, (3, 2, 2))) == ["features.15", "features.18", "features.22", "features.25"]
    mobile = orders(blueprint.skeleton("mobilenet_v2", {}, {}, {}), (3, 3, 3, 2, 1))
    assert [path.split(".")[1] for path, order in mobile.items() if order == 2] == [*map(str, range(7, 14))]
    assert [path.split(".")[1] for path, order in mobile.items() if order == 1] == [*map(str, range(14, 18))]
    cnn = blueprint.skeleton("digits_cnn", {}, {}, {})
    assert orders(cnn, (3, 3, 3, 2)) == {"7": 2} and orders(cnn, (1, 2, 1)) == {"0": 2, "3": 2, "7": 1}


def test_the_printed_count_is_wrong_and_said_to_be() -> None:
    (row,) = [row for row in reported.of("approxconv") if row.is_accounting]
    counted, verdict = accounting.judged("approxconv", row)
    assert counted is not None and counted.value == 5_583_976
    assert verdict.outcome == "accounting differs" and "wrong numbers of channels" in verdict.reason


def test_the_training_is_that_of_the_official_code() -> None:
    paper = Budget("paper", None)
    config = approxconv.Config(milestones=(3,))
    assert config.operating_points(paper) == [5] * 4
    recipe = _recipe(config, paper, 5)
    assert (recipe.lr, recipe.batch, recipe.factor(2.9), recipe.augmentation) == (0.001, 128, 1, None)
    assert recipe.factor(3) == pytest.approx(0.1) and recipe.decay_norm
    assert recipe.optimiser == SGD(momentum=0.9, weight_decay=5e-4)
    assert _recipe(config, Budget("short", 1.0, 0.01), 1).lr == 0.01


@pytest.mark.parametrize("bad", [[], [[]], [[2], [2]], [[0]], [[17]]])
def test_orders_that_can_not_be_followed_are_refused(bad: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match="points"):
        msgspec.convert({"points": bad}, approxconv.Config)


def test_a_network_without_such_windows_is_refused() -> None:
    task = tasks.load("digits", "digits_cnn")
    reason = approxconv.unsupported(task, approxconv.Config(points=((2,), (3,))))
    assert reason == "digits_cnn has no convolution with a square window above the orders of one of the points"
