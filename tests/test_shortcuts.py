"""Shortcuts without parameters: what a network says of them is enough for structured pruning, whatever they are called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_structured import lively, masked, some
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import networks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from benchmarks.networks import cifar_resnet
from methods.families.structured import channels, cost, surgery
from methods.families.structured.channels import Group
from methods.families.structured.shortcuts import is_shortcut


class Turned(nn.Module):
    """Copies channels in an order of its own, some twice, with zeros between."""

    ORIGINS = (3, 5, 0, 1, 5, 2, 1)  # 5: none

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def channel_map(self, inputs: int) -> Tensor:
        return torch.tensor([origin if origin < 5 else inputs for origin in self.ORIGINS])

    def forward(self, x: Tensor) -> Tensor:
        places = self.channel_map(x.shape[1])
        return F.pad(x, (0, 0, 0, 0, 0, 1)).index_select(1, places)[:, :, :: self.stride, :: self.stride]


class Residual(nn.Module):
    """Two streams, of 5 and of 7 channels, and a shortcut from the one to the other."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.conv3, self.bn3 = nn.Conv2d(5, 7, 3, stride, padding=1, bias=False), nn.BatchNorm2d(7)
        self.past = Turned(stride)
        self.conv4, self.bn4 = nn.Conv2d(7, 7, 3, padding=1, bias=False), nn.BatchNorm2d(7)
        self.linear = nn.Linear(7, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = (self.bn2(self.conv2(x)) + x).relu()
        x = (self.bn3(self.conv3(x)) + self.past(x)).relu()
        x = (self.bn4(self.conv4(x)) + x).relu()
        return self.linear(x.mean((2, 3)))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_shortcut_of_another_network_is_followed(stride: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "build", lambda *_: Residual(stride))
    network = lively(Residual(stride))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    groups = channels.find(network, x[:1], "streams")
    assert [(group.name, group.size) for group in groups if group.kind == "stream"] == [("conv1", 5), ("conv3", 7)]
    keep = some(groups, seed)
    task: Any = SimpleNamespace(architecture="residual", arguments={})
    plan = surgery.plan(network, groups, keep)
    narrow = plan.slim(network).realise(task, network)
    wanted = masked(network, groups, keep, x)
    with torch.no_grad():
        torch.testing.assert_close(narrow(x), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    assert measure.macs(narrow, x[:1]) == cost.measure(network, groups, x[:1]).macs(channels.counts(keep))


@pytest.mark.parametrize("side", ["in", "out"])
def test_a_stream_on_one_side_alone_is_cut(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "build", lambda *_: Residual(2))
    network = lively(Residual(2))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    groups = channels.find(network, x[:1], "streams")
    keep = channels.all_kept(groups)
    keep["conv1" if side == "in" else "conv3"][::2] = False
    task: Any = SimpleNamespace(architecture="", arguments={})
    narrow = surgery.plan(network, groups, keep).slim(network).realise(task, network)
    wanted = masked(network, groups, keep, x)
    with torch.no_grad():
        torch.testing.assert_close(narrow(x), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def test_the_shortcut_of_the_cifar_networks_says_what_it_computes() -> None:
    shortcut = cifar_resnet.Shortcut(3)
    x = torch.randn(2, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    found = F.pad(x, (0, 0, 0, 0, 0, 1))[:, shortcut.channel_map(4), :: shortcut.stride, :: shortcut.stride]
    assert torch.equal(found, shortcut(x)) and found.shape == (2, 10, 4, 4)


def test_a_shortcut_is_known_by_what_it_offers_and_has_no_parameters() -> None:
    class Scaled(Turned):
        def __init__(self) -> None:
            super().__init__(1)
            self.scale = nn.Parameter(torch.ones(7, 1, 1))

    assert is_shortcut(cifar_resnet.Shortcut(3)) and is_shortcut(Turned(1))
    assert not any(map(is_shortcut, (Scaled(), nn.Identity(), nn.Conv2d(1, 1, 1), nn.AvgPool2d(2), nn.Sequential())))


def test_a_shortcut_whose_input_is_in_no_group_is_not_cut() -> None:
    network = Residual(2)
    groups: list[Group] = channels.find(network, torch.zeros(1, 1, 8, 8), "streams")
    keep = channels.all_kept(groups)
    keep["conv3"][::2] = False
    later = [group for group in groups if group.name == "conv3"]
    with pytest.raises(MethodError, match="shortcut past reads channels that are in no group"):
        surgery.plan(network, later, keep)
