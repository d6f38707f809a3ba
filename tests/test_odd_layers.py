"""Layers that the suite's own networks don't have: methods store them as they are, or name the layer and the reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_odd_networks import POST_TRAINING, SHORT, Padded, first
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import methods
from benchmarks import networks, tasks
from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from benchmarks.training.batchnorm import conv_bn_pairs, foldable, reestimate
from methods.families.structured import analyse

torch.set_num_threads(1)
PRUNERS = ["l1_filter", "fpgm", "random_filter", "torch_pruning", "sfp", "uniform_width", "psap", "hierarchical"]
STORERS = ["uniform", "magnitude", "pq", "reference", "surp", "aq"]


def conv(inputs: int = 8, outputs: int = 8) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def around(*odd: nn.Module, width: int = 8) -> nn.Module:
    """Two ordinary convolutions, the odd layers (paths from "4" on), another convolution and a classifier."""
    head = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    return nn.Sequential(conv(1, 16), nn.ReLU(), conv(16), nn.ReLU(), *odd, conv(width), *head)


class Scaled(nn.Module):
    """A factor for all channels, one for each channel, and buffers that are no floating-point numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.5))
        self.each = nn.Parameter(torch.linspace(0.5, 1.5, 8).view(1, 8, 1, 1))
        self.register_buffer("power", torch.tensor([1, 3001]))
        self.register_buffer("mask", torch.arange(8) > 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x * self.factor * self.each * self.mask.view(1, 8, 1, 1) * self.power[1]
        return found


class Functional(nn.Module):
    """The weight of a convolution is used, but the convolution is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = conv()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, 2 * self.inner.weight, self.inner.bias, padding=1)  # type: ignore[operator,arg-type]


class Tied(nn.Module):
    """Two convolutions with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = conv(), conv()
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.other(self.one(x).relu())
        return found


class Twice(nn.Module):
    """One convolution that two BatchNorms follow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.bn1, self.bn2 = conv(), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.bn2(self.inner(self.bn1(self.inner(x)).relu()))
        return found


LEFT_WHOLE: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm without γ and β": lambda: around(nn.BatchNorm2d(8, affine=False)),
    "BatchNorm without statistics": lambda: around(nn.BatchNorm2d(8, track_running_stats=False)),
    "BatchNorm with nothing": lambda: around(nn.BatchNorm2d(8, affine=False, track_running_stats=False)),
    "weight_norm": lambda: around(weight_norm(conv()), nn.ReLU()),
    "PixelShuffle": lambda: around(nn.PixelShuffle(2), width=2),
    "scalar parameter": lambda: around(Scaled()),
    "GroupNorm": lambda: around(nn.GroupNorm(2, 8)),
    "PReLU": lambda: around(nn.PReLU(8)),
    "one PReLU": lambda: around(nn.PReLU()),
    "transposed convolution": lambda: around(nn.ConvTranspose2d(8, 8, 3, stride=2), nn.ReLU()),
    "one-dimensional convolution": lambda: around(
        nn.Flatten(2), nn.Conv1d(8, 8, 3, padding=1), nn.Unflatten(2, (8, 8))
    ),
    "groups": lambda: around(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU()),
    "padding": lambda: around(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
    "one convolution twice": lambda: around(Twice()),
}
STORED = LEFT_WHOLE | {
    "functional": lambda: around(Functional()),
    "hook": lambda: around(torch.nn.utils.weight_norm(conv()), nn.ReLU()),
    "no biases": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)),
}


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], nn.Module]], Any]:
    """A function: the digits task with a network as its reference, whose BatchNorms have statistics of their own."""

    def replace(make: Callable[[], nn.Module], change: Callable[[Any], object] = lambda _: None) -> Any:
        known, build = tasks.load("digits", "digits_cnn"), networks.build
        monkeypatch.setattr(
            networks, "build", lambda name, arguments: make() if name == "odd" else build(name, arguments)
        )
        torch.manual_seed(0)
        network = make()
        with torch.no_grad():
            change(network)
        values: dict[str, Any] = {
            "architecture": "odd",
            "arguments": {},
            "network": "odd",
            "load_state": lambda: dict(network.state_dict()),
        }
        task: Any = type(known)(**{name: values.get(name, getattr(known, name)) for name in known.__dataclass_fields__})  # type: ignore[attr-defined]
        reestimate(network, task, 256)
        return task

    return replace


def compressed(key: str, task: Any, **changes: Any) -> nn.Module:
    """The decoded network of the first point, with the cheapest budget and no re-estimated statistics."""
    kind = methods.get(key).Config
    small: dict[str, Any] = {"targets": (0.1,), "recalibrate": 0, "batches": 2, "size": 8, "points": ((2, 8),)}
    small = {name: value for name, value in small.items() if hasattr(kind(), name) and key != "pq"} | changes
    budget = POST_TRAINING if "post-training" in methods.get(key).CARD.budgets else SHORT
    return first(key, task, budget, **small)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("key", STORERS)
def test_methods_that_keep_the_layers_store_them(key: str, name: str, on: Any) -> None:
    task = on(STORED[name])
    changes: dict[str, Any] = {"recalibrate": 0} if key == "pq" else {}
    decoded, known = compressed(key, task, **changes), task.reference()
    kinds = {n: (t.shape, t.dtype) for n, t in known.state_dict().items()}
    assert {n: (t.shape, t.dtype) for n, t in decoded.state_dict().items()} == kinds
    for path, tensor in blueprint.state(known).items():
        assert tensor.is_floating_point() or torch.equal(tensor, decoded.state_dict()[path]), f"{path} is rounded"
    inputs = task.prepare(task.calibration(32).inputs)
    with torch.no_grad():
        wanted, found = known(inputs), decoded(inputs)
    assert torch.isfinite(found).all()
    if key not in ("surp", "aq"):  # their few codewords and steps are far from the network
        assert (found - wanted).norm() < 0.06 * wanted.norm()


@pytest.mark.parametrize("name", LEFT_WHOLE)
@pytest.mark.parametrize("key", PRUNERS)
def test_pruning_leaves_a_layer_that_it_can_not_follow_as_it_is(key: str, name: str, on: Any) -> None:
    task = on(LEFT_WHOLE[name])
    decoded, known = compressed(key, task), task.reference().requires_grad_(False)
    example = task.prepare(task.calibration(1).inputs)
    assert measure.macs(decoded, example) <= 0.9 * measure.macs(known, example)
    assert sum(p.numel() for p in decoded.parameters()) < sum(p.numel() for p in known.parameters())
    if name != "one PReLU":
        assert {n: t.shape for n, t in decoded[4].state_dict().items()} == {  # type: ignore[index]
            n: t.shape for n, t in known[4].state_dict().items()
        }
    assert torch.isfinite(decoded(example)).all()


@pytest.mark.parametrize("where", ["inner", "streams"])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("BatchNorm without γ and β", "4 is a BatchNorm2d without affine parameters or running statistics"),
        ("BatchNorm without statistics", "4 is a BatchNorm2d without affine parameters or running statistics"),
        ("weight_norm", r"4 computes its weight from other tensors, e.g. by weight_norm: it can't be made narrower"),
        ("PixelShuffle", r"the channels of 2 can't be followed \("),
        ("scalar parameter", r"the channels of 2 can't be followed \("),
        ("GroupNorm", "4 is a GroupNorm: it can't be made narrower"),
        ("groups", "4 is a convolution in 2 groups: only ordinary and depthwise ones can be made narrower"),
    ],
)
def test_what_is_left_whole_is_said(name: str, sentence: str, where: Any, on: Any) -> None:
    prunable = analyse(on(LEFT_WHOLE[name]), where)
    assert [group.name for group in prunable.groups if group.name in ("0", "2")] == ["0"]
    assert re.match(sentence, prunable.whole[-1]), prunable.whole


@pytest.mark.parametrize("key", [*STORERS, *PRUNERS])
def test_a_tensor_with_two_names_is_refused(key: str, on: Any) -> None:
    with pytest.raises(MethodError, match=r"^4\.one\.weight and 4\.other\.weight of odd are one tensor, .*: give each"):
        compressed(key, on(lambda: around(Tied())))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (STORED["functional"], r"^4\.inner is not called as a module .*: call the module"),
        (STORED["hook"], r"^4\.weight is computed by a hook, .*: use a parametrisation of"),
        (STORED["no biases"], r"^odd has no channels to prune: no convolution whose output only other layers read$"),
        (
            lambda: nn.Sequential(conv(1), nn.PixelShuffle(2), nn.Flatten(), nn.Linear(512, 10)),
            r"^channels can't be followed through odd \(.*\): it has an operator that mixes them after 0$",
        ),
        (
            lambda: nn.Sequential(weight_norm(conv(1)), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
            "^odd has no channels to prune: .*; 0 computes its weight from other tensors, e.g. by weight_norm",
        ),
    ],
    ids=["functional", "hook", "linear", "PixelShuffle", "weight_norm"],
)
@pytest.mark.parametrize("key", PRUNERS)
def test_networks_that_pruning_can_not_follow_are_refused(key: str, make: Any, sentence: str, on: Any) -> None:
    with pytest.raises(MethodError, match=sentence) as caught:
        compressed(key, on(make))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["uniform", "magnitude", "pq", "aq"])
def test_a_network_without_weights_of_its_own_is_refused(key: str, on: Any) -> None:
    task = on(lambda: nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(64, 10))))
    with pytest.raises(MethodError, match="no convolution or linear layer with a weight of its own"):
        compressed(key, task)


@pytest.mark.parametrize("grid", ["tensor", "batchnorm"])
def test_a_step_per_channel_is_for_one_convolution_and_one_batchnorm(grid: str, on: Any) -> None:
    """A convolution that is called twice can't be divided by the scale of one of its BatchNorms."""

    def uneven(network: Any) -> None:
        network[4].bn2.weight.copy_(torch.linspace(0.1, 3, 8))

    task = on(lambda: around(Twice()), uneven)
    known, inputs = task.reference(), task.prepare(task.calibration(32).inputs)
    assert conv_bn_pairs(known) == {}
    with torch.no_grad():
        wanted = known(inputs)
        assert (compressed("uniform", task, grid=grid)(inputs) - wanted).norm() < 0.05 * wanted.norm()


class Values(nn.Module):
    """A forward pass that depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_can_not_be_traced_is_refused(on: Any) -> None:
    with pytest.raises(MethodError, match=r"^the network can't be traced .* \(.*\): its forward pass must not depend"):
        compressed("uniform", on(lambda: nn.Sequential(around(), Values())))


@pytest.mark.parametrize("key", ["uniform", "magnitude", "reference", "pq", "aq"])
def test_statistics_beyond_fp16_without_a_scale_are_stored_in_fp32(key: str, on: Any) -> None:
    def huge(network: Any) -> None:
        network[2].weight.mul_(1e5)

    task = on(lambda: around(nn.BatchNorm2d(8, affine=False)), huge)
    assert float(task.reference()[4].running_var.max()) > 65504
    norm: Any = compressed(key, task, **({"recalibrate": 0} if key == "pq" else {}))[4]  # type: ignore[index]
    torch.testing.assert_close(norm.running_var, task.reference()[4].running_var, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", [n for n in LEFT_WHOLE if n != "weight_norm"])
def test_the_cost_of_every_layer_and_call_is_counted(name: str, on: Any) -> None:
    task = on(LEFT_WHOLE[name])
    network, example = task.reference(), task.prepare(task.calibration(1).inputs)
    prunable = analyse(task)
    assert prunable.macs(prunable.all_kept()) == measure.macs(network, example)


def residual(norm: Callable[[], nn.Module], inner: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> nn.Module:
    """Two stages of residual blocks with a kind of BatchNorm after the first convolution of each block."""
    network: Any = Padded()
    for stage in (network.layer1, network.layer2):
        for block in stage:
            block.bn1 = norm()
            block.conv1 = inner(block.conv1)
    return network  # type: ignore[no-any-return]


@pytest.mark.parametrize("storage", ["float32", "uniform"])
@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
@pytest.mark.parametrize("key", ["svd", "jsvd"])
def test_factorised_networks_keep_such_batchnorms(key: str, options: Any, storage: str, on: Any) -> None:
    task = on(lambda: residual(lambda: nn.BatchNorm2d(8, **options)))
    decoded = first(key, task, storage=storage)
    own = [n for n in blueprint.state(task.reference()) if ".bn1." in n]
    assert own and own == [n for n in blueprint.state(decoded) if ".bn1." in n]
    assert not any(foldable(m) for n, m in decoded.named_modules() if n.endswith("0.bn1"))
    first(key, task, SHORT, storage=storage, start="scratch")


@pytest.mark.parametrize("key", ["svd", "jsvd"])
def test_a_computed_weight_can_not_be_factorised(key: str, on: Any) -> None:
    task = on(lambda: residual(lambda: nn.BatchNorm2d(8), weight_norm))
    reason = methods.get(key).unsupported(task, methods.get(key).Config())
    assert reason == (
        "layer2.0.conv1 computes its weight from other tensors, e.g. by weight_norm: it can't be factorised"
    )
