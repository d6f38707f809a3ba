"""Decoder modules: every kind through a file, and the bounds of every argument."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from goldens.hostile import built, described
from goldens.samples import ARCHITECTURE, ARGUMENTS, whole
from torch import Tensor, nn

from benchmarks import registry
from benchmarks.bitstream import blueprint, decode, encode, modules
from benchmarks.bitstream.modules import (
    avg_pool2d,
    batch_norm2d,
    conv2d,
    gather,
    identity,
    joined_conv2d,
    linear,
    quantised_layer,
    sequential,
)
from benchmarks.errors import BitstreamError
from methods.interface import ModuleSpec

KINDS = {importlib.import_module(f"{modules.__name__}.{file}").KIND: file for file in registry.names(modules.__name__)}
# One module of each kind with every argument set, and what it has to be.
EXAMPLES: dict[str, tuple[ModuleSpec, Callable[[], nn.Module]]] = {
    "AvgPool2d": (avg_pool2d.spec(kernel_size=(2, 3), stride=2), lambda: nn.AvgPool2d((2, 3), (2, 2))),
    "BatchNorm2d": (batch_norm2d.spec(4, eps=0.25), lambda: nn.BatchNorm2d(4, eps=0.25)),
    "Conv2d": (
        conv2d.spec(4, 6, kernel_size=(3, 1), stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=2, bias=False),
        lambda: nn.Conv2d(4, 6, (3, 1), (2, 1), (0, 2), (1, 2), 2, bias=False),
    ),
    "Gather": (gather.spec(3), lambda: gather.Gather(3)),
    "Identity": (identity.spec(), nn.Identity),
    "JoinedConv2d": (
        joined_conv2d.spec(4, (2, 1), 0, kernel_size=(3, 1), stride=(2, 1), padding=(1, 0)),
        lambda: joined_conv2d.JoinedConv2d(4, (2, 1), 0, (3, 1), (2, 1), (1, 0)),
    ),
    "Linear": (linear.spec(8, 5, bias=False), lambda: nn.Linear(8, 5, bias=False)),
    "QuantisedLayer": (
        quantised_layer.spec(conv2d.spec(4, 2, kernel_size=1), weight_bits=3, input_bits=4, signed=True),
        lambda: quantised_layer.QuantisedLayer(nn.Conv2d(4, 2, 1), 3, 4, True),
    ),
    "Sequential": (
        sequential.spec(conv2d.spec(4, 2, kernel_size=1), sequential.spec(identity.spec())),
        lambda: nn.Sequential(nn.Conv2d(4, 2, 1), nn.Sequential(nn.Identity())),
    ),
}

SIZES: list[Any] = [0, -1, 2**20 + 1, 2**60, -(2**63), 4.0, 1.5, math.nan, "4", None, True, [4], {}, b"4"]
WINDOWS: list[Any] = [0, 2**10 + 1, 2**40, [], [3], [3, 3, 3], [[3], 3], [3, "3"], [3, 0], 1.5, "33", None, True, {}]
PADDINGS: list[Any] = [-1, 2**10 + 1, [0], [1, -1], "valid", "zeros", 0.0, None, False]
FLAGS: list[Any] = [0, 1, 1.0, "true", None, []]
OUTSIDE: dict[str, dict[str, list[Any]]] = {
    "AvgPool2d": {"kernel_size": WINDOWS, "stride": WINDOWS},
    "BatchNorm2d": {"num_features": SIZES, "eps": [0, -1e-5, 1.5, math.nan, math.inf, "1", True, None, [1e-5]]},
    "Conv2d": {
        "in_channels": SIZES,
        "out_channels": SIZES,
        "kernel_size": WINDOWS,
        "stride": WINDOWS,
        "padding": PADDINGS,
        "dilation": WINDOWS,
        "groups": SIZES,
        "bias": FLAGS,
    },
    "Gather": {"channels": SIZES},
    "Identity": {},
    "JoinedConv2d": {
        "channels": SIZES,
        "pieces": [[], [1] * 5, [1, 0], [2**20 + 1], [1.0], [[1]], 3, "11", {}, None],
        "axis": [-1, 2, 0.0, False, None, "0"],
        "kernel_size": WINDOWS,
        "stride": WINDOWS,
        "padding": [*PADDINGS, "same"],
    },
    "Linear": {"in_features": SIZES, "out_features": SIZES, "bias": FLAGS},
    "QuantisedLayer": {
        "weight_bits": [0, -1, 17, 2**40, 4.0, "4", None, True, [4], {}],
        "input_bits": [-1, 17, 2**40, 4.0, "4", None, False, [4], {}],
        "signed": FLAGS,
    },
    "Sequential": {},
}
OPTIONAL = {("Conv2d", name) for name in ("stride", "padding", "dilation", "groups", "bias")}
OPTIONAL |= {("BatchNorm2d", "eps"), ("Linear", "bias")}
every_kind = pytest.mark.parametrize("kind", EXAMPLES)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_every_kind_has_an_example_with_all_of_its_arguments() -> None:
    assert set(KINDS) == set(EXAMPLES) == set(OUTSIDE)
    assert all(list(EXAMPLES[kind][0].arguments) == list(OUTSIDE[kind]) for kind in EXAMPLES)


def test_every_kind_is_found_in_the_file_that_declares_it() -> None:
    for kind, file in KINDS.items():
        assert modules.get(kind) is importlib.import_module(f"{modules.__name__}.{file}")


@every_kind
def test_every_kind_comes_back_from_a_file(kind: str) -> None:
    spec, make = EXAMPLES[kind]
    assert spec.kind == kind
    found, wanted = decode(encode(whole([], {"2": spec})))[2], make().eval()
    assert repr(found) == repr(wanted)
    wanted.load_state_dict(found.state_dict())
    x = random(2, 4, 8, 8)
    assert torch.equal(found(x), wanted(x))


def test_a_file_holds_the_arguments_of_a_convolution_as_they_are_given() -> None:
    """Their order is part of the bytes of files that are there already."""
    spec = conv2d.spec(1, 4, bias=False, kernel_size=3, stride=(1, 1))
    assert list(spec.arguments.items()) == [
        ("in_channels", 1),
        ("out_channels", 4),
        ("bias", False),
        ("kernel_size", 3),
        ("stride", (1, 1)),
    ]


def refusal(spec: dict[str, Any]) -> str:
    with pytest.raises(BitstreamError) as caught:
        decode(described(edits={"2": spec}))
    return str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in OUTSIDE for name in OUTSIDE[kind]])
def test_each_argument_has_its_bounds(kind: str, name: str) -> None:
    arguments = EXAMPLES[kind][0].arguments
    for value in OUTSIDE[kind][name]:
        sentence = refusal(built(kind, **{**arguments, name: value}))
        assert sentence.startswith(f"module '2' can't be built as {kind}: {name} has to be "), value
        assert len(sentence) < 300
    assert name[:20] in refusal(built(kind, **{**arguments, name: "a" * 10**5}))
    fewer = {key: value for key, value in arguments.items() if key != name}
    if (kind, name) in OPTIONAL:
        blueprint.skeleton(ARCHITECTURE, ARGUMENTS, {"2": ModuleSpec(kind, fewer)}, {})
    else:
        assert refusal(built(kind, **fewer)) == f"module '2' can't be built as {kind}: it lacks the argument {name}"


@every_kind
@pytest.mark.parametrize("name", ["device", "dtype", "padding_mode", "", "self", "a" * 10**5])
def test_no_kind_takes_other_arguments(kind: str, name: str) -> None:
    sentence = refusal(built(kind, **{**EXAMPLES[kind][0].arguments, name: 0}))
    assert sentence.startswith(f"module '2' can't be built as {kind}: it takes no argument ") and len(sentence) < 300


@every_kind
def test_only_a_sequence_has_modules_within_it(kind: str) -> None:
    spec = ModuleSpec(kind, EXAMPLES[kind][0].arguments, (identity.spec(),))
    if kind == "Sequential":
        blueprint.skeleton(ARCHITECTURE, ARGUMENTS, {"2": spec}, {})
    elif kind == "QuantisedLayer":
        sentence = refusal(built(kind, {"kind": "Identity"}, **spec.arguments))
        assert sentence == f"module '2' can't be built as {kind}: it takes one child module, a Conv2d or a Linear"
    else:
        sentence = refusal(built(kind, {"kind": "Identity"}, **spec.arguments))
        assert sentence == f"module '2' can't be built as {kind}: it takes no child modules, but 1 was given"


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("reference.Conv2d", "unknown kind of module of method 'reference' 'Conv2d': known:"),
        ("Conv2D", "unknown kind of module 'Conv2D': did you mean 'Conv2d' or 'JoinedConv2d'"),
        ("conv2d", "unknown kind of module 'conv2d': did you mean 'Conv2d'"),
        ("joined_conv2d", "unknown kind of module 'joined_conv2d': did you mean 'JoinedConv2d'"),
        ("__init__", "unknown kind of module '__init__': "),
        ("bounds", "unknown kind of module 'bounds': "),
        ("os.system", "unknown method 'os': "),
        ("Conv2d.", "unknown kind of module 'Conv2d.': did you mean 'Conv2d'"),
        (".Conv2d", "unknown method '': "),
        ("contributed.sine", "unknown method 'contributed': "),
        ("xyz", "unknown kind of module 'xyz': known: AvgPool2d, BatchNorm2d, Conv2d, Gather, "),
    ],
)
def test_an_unknown_kind_is_named_with_the_nearest(kind: str, hint: str) -> None:
    assert refusal(built(kind)).startswith(f"module '2' can't be built: {hint}")
    assert refusal(built("Sequential", built("Identity"), built(kind))).startswith(f"module '2' can't be built: {hint}")
