"""Networks that are unlike the suite's own: methods store them, or say in one sentence which layer they can't follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_every_method import MemoryRun
from torch import Tensor, nn

import methods
from benchmarks import bitstream, networks, tasks
from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from methods.interface import Budget

torch.set_num_threads(1)
POST_TRAINING, SHORT = Budget("post-training", 0.0), Budget("short", 0.02)


class Block(nn.Module):
    """A residual block whose convolutions pad in a chosen way."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False, padding_mode=mode)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False, padding_mode=mode)
        self.bn2 = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Padded(nn.Module):
    """Two stages of residual blocks; with `mode` "zeros", an ordinary network."""

    def __init__(self, mode: str = "zeros", narrow: int = 0) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(1, 1, narrow, padding=narrow // 2, bias=False) if narrow else nn.Identity()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(mode), Block(mode))
        self.layer2 = nn.Sequential(Block(mode), Block(mode))
        self.linear = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.layer2(self.layer1(self.bn1(self.conv1(self.narrow(x))).relu())).mean((2, 3)))


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, nn.Module]]:
    """A function: (the digits task with a network as its reference, the network)."""

    def replace(make: Callable[[], nn.Module], change: Callable[[nn.Module], None] = lambda _: None) -> Any:
        build = networks.build
        monkeypatch.setattr(
            networks, "build", lambda name, arguments: make() if name == "odd" else build(name, arguments)
        )
        torch.manual_seed(0)
        network = make().eval()
        with torch.no_grad():
            change(network)
        known = tasks.get("digits").task("digits_cnn")
        values = {
            "architecture": "odd",
            "arguments": {},
            "network": "odd",
            "load_state": lambda: dict(network.state_dict()),
        }
        return type(known)(**{name: values.get(name, getattr(known, name)) for name in known.__dataclass_fields__})

    return replace


def first(key: str, task: Any, budget: Budget = POST_TRAINING, **changes: Any) -> nn.Module:
    """The decoded network of a method's first operating point."""
    method = methods.get(key)
    return bitstream.decode(
        bitstream.encode(next(iter(method.compress(task, method.Config(**changes), MemoryRun(budget)))))
    )


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("key", ["l1_filter", "sfp", "psap", "hierarchical", "uniform_width", "svd", "jsvd", "tucker"])
def test_a_layer_with_another_padding_is_named(key: str, mode: str, on: Any) -> None:
    """A narrower or factorised convolution would pad with zeros: another function, without a word."""
    task = on(lambda: Padded(mode))
    budget = POST_TRAINING if "post-training" in methods.get(key).CARD.budgets else SHORT
    with pytest.raises(MethodError, match=r"layer\d\.\d\.conv\d .*pad") as caught:
        first(key, task, budget)
    assert "\n" not in str(caught.value) and "zeros" in str(caught.value)


def test_methods_that_keep_the_layers_keep_their_padding(on: Any) -> None:
    task = on(lambda: Padded("reflect"))
    inputs = task.prepare(task.calibration(4).inputs)
    with torch.no_grad():
        assert torch.equal(first("reference", task)(inputs), task.reference()(inputs))


def huge(network: nn.Module) -> None:
    """BatchNorm after a layer with large outputs: statistics beyond fp16, scale and shift within."""
    network.conv1.weight.mul_(1e4)  # type: ignore[operator,union-attr]
    norm = network.bn1
    norm.running_mean.fill_(1e5), norm.running_var.fill_(1e10), norm.bias.fill_(1.0)  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("key", ["magnitude", "reference", "uniform", "surp", "pq", "rvq", "aq"])
def test_statistics_beyond_fp16_are_stored(key: str, on: Any) -> None:
    task = on(Padded, huge)
    inputs = task.prepare(task.calibration(8).inputs)
    changes = {"recalibrate": 0} if hasattr(methods.get(key).Config(), "recalibrate") else {}
    decoded = first(key, task, **changes)
    with torch.no_grad():
        one, other = (network.bn1(network.conv1(inputs)) for network in (task.reference(), decoded))
    assert (one - other).abs().mean() < 0.2 * one.std()


def test_a_half_precision_network_keeps_what_half_precision_can_not_hold(on: Any) -> None:
    task, method = on(Padded, huge), methods.get("reference")
    *_, half = method.compress(task, method.Config(), MemoryRun(POST_TRAINING))
    state, known = bitstream.decode(bitstream.encode(half)).state_dict(), task.reference().state_dict()
    assert half.point == {"dtype": "float16"}
    for name, tensor in known.items():
        fits = tensor.abs().max() <= 65504
        assert torch.equal(state[name], tensor.half().float() if fits and tensor.is_floating_point() else tensor), name


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("dimension", [1, 4, 9])
def test_a_layer_with_a_single_vector_has_a_single_codeword(side: int, dimension: int, on: Any) -> None:
    """A convolution from one channel to one: its vectors may be fewer than two codewords."""
    task = on(lambda: Padded(narrow=side))
    decoded = first("pq", task, points=((dimension, 16),), recalibrate=0)
    found, known = blueprint.state(decoded)["narrow.weight"], blueprint.state(task.reference())["narrow.weight"]
    vectors = -(-side * side // dimension)
    if vectors <= 2:
        torch.testing.assert_close(found, known, rtol=2e-3, atol=1e-3)
    assert torch.isfinite(found).all()


def test_a_single_weight_has_no_scale_and_is_named(on: Any) -> None:
    task = on(lambda: Padded(narrow=1))
    with pytest.raises(
        MethodError, match=r"^narrow\.weight is constant: it has no scale; choose scale 'none' or skip it$"
    ):
        first("pq", task, points=((1, 16),))
    assert torch.isfinite(first("pq", task, points=((1, 16),), scale="none", recalibrate=0).narrow.weight).all()  # type: ignore[union-attr,arg-type]
    assert torch.isfinite(first("pq", task, points=((1, 16),), skip=("narrow",), recalibrate=0).narrow.weight).all()  # type: ignore[union-attr,arg-type]
