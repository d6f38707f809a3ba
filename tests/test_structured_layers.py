"""Layers with all their settings under the knife: dilation, strides, groups, biases and a BatchNorm's ε of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_structured import images, lively, masked, some
from torch import Tensor, nn

from benchmarks import bitstream, networks
from benchmarks.bitstream.codecs import raw
from benchmarks.training.batchnorm import affine
from methods.families import storage
from methods.families.description import describe
from methods.families.slim import Slim
from methods.families.structured import allocation, channels, cost, surgery
from methods.families.structured.channels import Where

every_choice = pytest.mark.parametrize("where", ["inner", "branches", "streams"])


class Crowded(nn.Module):
    """An inverted residual block and a tail; no two layers have the same settings, and none has the usual ε."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8, eps=0.3)
        self.expand = nn.Conv2d(8, 12, (3, 1), padding=(2, 0), dilation=(2, 1), bias=False)
        self.expand_bn = nn.BatchNorm2d(12, eps=0.1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=3, dilation=3, groups=12)
        self.depthwise_bn = nn.BatchNorm2d(12, eps=0.2)
        self.project, self.project_bn = nn.Conv2d(12, 8, (1, 3), padding=(0, 1)), nn.BatchNorm2d(8, eps=0.05)
        self.tail = nn.Conv2d(8, 6, 3, stride=(2, 1), padding=2, dilation=2)
        self.tail_bn = nn.BatchNorm2d(6, eps=0.4)
        self.linear = nn.Linear(6 * 4 * 8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_bn(self.stem(x)).relu()
        y = self.expand_bn(self.expand(x)).relu()
        y = self.depthwise_bn(self.depthwise(y)).relu()
        x = x + self.project_bn(self.project(y))
        found: Tensor = self.linear(self.tail_bn(self.tail(x)).relu().flatten(1))
        return found


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(networks, "build", lambda *_: Crowded())
    return SimpleNamespace(architecture="crowded", arguments={})


def example(count: int = 3) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(4))


def products(network: nn.Module, x: Tensor) -> int:
    """Multiplications for one item: a loop over the places of each output and over the filters."""
    counted = 0

    def count(module: Any, _: Any, output: Tensor) -> None:
        nonlocal counted
        for _place in range(output[0, 0].numel()):
            counted += sum(filter_.numel() for filter_ in module.weight)

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network(x[:1])
    for hook in hooks:
        hook.remove()
    return counted


@every_choice
def test_surgery_keeps_every_setting_and_costs_are_those_of_loops(task: Any, where: Where) -> None:
    network, x = lively(Crowded()), example()
    groups = channels.find(network, x[:1], where)
    model = cost.measure(network, groups, x[:1])
    assert model.macs(channels.counts(channels.all_kept(groups))) == products(network, x)
    assert {"stem", "project"} & {g.name for g in groups} == {"inner": set(), "branches": {"project"}}.get(
        where, {"stem"}
    )
    for seed in range(3):
        keep = some(groups, seed)
        plan = surgery.plan(network, groups, keep)
        narrow = plan.slim(network).realise(task, network)
        wanted = masked(network, groups, keep, x)
        with torch.no_grad():
            torch.testing.assert_close(narrow(x), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
            wide = surgery.widen(task, narrow, plan)
            torch.testing.assert_close(wide(x), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
        assert model.macs(channels.counts(keep)) == products(narrow, x)
        for path, module in narrow.named_modules():
            if isinstance(module, nn.Conv2d):
                dense: Any = network.get_submodule(path)
                names = ("kernel_size", "stride", "padding", "dilation")
                assert [getattr(module, n) for n in names] == [getattr(dense, n) for n in names]
                assert module.groups == (module.out_channels if path == "depthwise" else 1)


def test_a_file_holds_the_function_of_each_batchnorm_whatever_its_epsilon(task: Any) -> None:
    """A file has scale and shift only; the running variance that a decoder fills in differs with ε."""
    network, x = lively(Crowded()), example()
    weights = storage.matrices(storage.tensors(network))
    part = raw.part(list(weights), list(weights.values()), "weights", "float32")
    decoded = bitstream.decode(bitstream.encode(describe(task, network, Slim(), [part], {})))
    with torch.no_grad():
        wanted = network(x)
        torch.testing.assert_close(decoded(x), wanted, rtol=0, atol=3e-3 * float(wanted.abs().max()))
    norm: Any = network.get_submodule("tail_bn")
    scale, shift = affine(norm)
    for channel in range(6):
        mean, variance = float(norm.running_mean[channel]), float(norm.running_var[channel])
        factor = float(norm.weight.detach()[channel]) / (variance + 0.4) ** 0.5
        assert float(scale[channel]) == pytest.approx(factor, rel=1e-5)
        assert float(shift[channel]) == pytest.approx(
            float(norm.bias.detach()[channel]) - mean * factor, rel=1e-4, abs=1e-5
        )


def test_a_depthwise_kernel_is_part_of_its_channels_filter() -> None:
    network = networks.build("mobilenet_v1", {"width": 0.25, "classes": 10})
    group = next(g for g in channels.find(network, images("mobilenet_v1", 1)) if g.side("depthwise"))
    members = group.side("out", "depthwise")
    weights = [network.get_parameter(f"{member.path}.weight") for member in members]
    assert {member.side for member in members} == {"out", "depthwise"}
    assert torch.equal(allocation.filters(network, group), torch.cat([w.flatten(1) for w in weights], 1))
    removed = torch.arange(group.size) == 3
    allocation.zero(network, group, removed)
    for weight in weights:
        assert not weight[3].any() and weight[~removed].flatten(1).any(1).all()
