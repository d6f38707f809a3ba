"""Repeated blocks are found by the structure of a network, the same as by the names of ResNets' layers."""

from __future__ import annotations

import re
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import networks
from methods import jsvd
from methods.baselines import svd, tucker
from methods.families.lowrank import Group, groups

RESNETS: list[tuple[str, dict[str, Any]]] = [
    ("cifar_resnet", {"depth": 20}),
    ("cifar_resnet", {"depth": 56}),
    ("digits_resnet", {}),
    ("digits_resnet", {"blocks": 1}),
    ("digits_resnet", {"blocks": 2}),
    ("resnet", {"depth": 18}),
    ("resnet", {"depth": 34}),
    ("resnet", {"depth": 50}),
    ("resnet", {"depth": 50, "stem": "cifar"}),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("digits_cnn", {}),
    ("vgg", {"depth": 11}),
    ("vgg", {"depth": 16, "norm": False}),
    ("mobilenet_v1", {}),
    ("mobilenet_v2", {}),
]
Found = list[tuple[str, tuple[str, ...], str | None, list[str]]]


def by_name(network: nn.Module) -> Found:
    """The groups of networks whose convolutions are called layer2.0.conv1 …: an oracle that reads names alone."""
    found: dict[tuple[int, int], dict[int, str]] = defaultdict(dict)
    layers = {path: m for path, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    for path in layers:
        if match := re.fullmatch(r"layer(\d+)\.(\d+)\.conv(\d+)", path):
            stage, block, position = map(int, match.groups())
            if stage > 1:
                found[stage, position][block] = path
    listed: Found = []
    for (stage, position), blocks in sorted(found.items()):
        paths = [path for _, path in sorted(blocks.items())]
        odd = paths[0] if position == 1 and 0 in blocks else None
        members = paths if odd is None else paths[1:]
        if odd is not None and members and layers[odd].in_channels == layers[members[0]].in_channels:
            odd, members = None, paths
        listed.append((f"layer{stage} conv{position}", tuple(members), odd, paths))
    return listed


def listed(found: list[Group]) -> Found:
    return [(group.name, group.members, group.odd, list(group.layers)) for group in found]


def built(name: str, arguments: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        return networks.build(name, arguments)


@pytest.mark.parametrize(("name", "arguments"), RESNETS)
def test_the_groups_are_those_of_the_names(name: str, arguments: dict[str, Any]) -> None:
    network = built(name, arguments)
    assert listed(groups(network)) == by_name(network) != []


@pytest.mark.parametrize(("name", "arguments"), OTHERS)
@pytest.mark.parametrize("method", [jsvd, svd, tucker])
def test_other_networks_have_none(name: str, arguments: dict[str, Any], method: Any) -> None:
    network = built(name, arguments)
    assert groups(network) == by_name(network) == []
    reason = method.unsupported(SimpleNamespace(architecture=name, arguments=arguments), method.Config())
    assert reason == f"needs the repeated blocks of a ResNet (layer2.0.conv1 …), which {name} does not have"


class Block(nn.Module):
    """Two convolutions of its own and one that lies deeper."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.mix = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.projection = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False))


class Wide(Block):
    """Another class of blocks."""


def network(**stages: nn.Module) -> nn.Module:
    found = nn.Module()
    for name, stage in stages.items():
        found.add_module(name, stage)
    return found


def test_stages_may_be_called_anything() -> None:
    found = network(
        stem=nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
        early=nn.Sequential(Block(4, 4), Block(4, 4)),
        late=nn.Sequential(Block(4, 8), Block(8, 8), Block(8, 8)),
        head=nn.Linear(8, 10),
    )
    assert listed(groups(found)) == [
        (
            "late spatial",
            ("late.1.spatial", "late.2.spatial"),
            "late.0.spatial",
            [f"late.{i}.spatial" for i in range(3)],
        ),
        ("late mix", tuple(f"late.{i}.mix" for i in range(3)), None, [f"late.{i}.mix" for i in range(3)]),
    ]


@pytest.mark.parametrize(
    "other",
    [
        nn.Sequential(),
        nn.Sequential(Block(4, 4), Wide(4, 4)),
        nn.Sequential(Block(4, 4), nn.ReLU()),
        nn.ModuleList([Block(4, 4), Block(4, 4)]),
        nn.Sequential(nn.Sequential(Block(4, 4)), nn.Sequential(Block(4, 4))),
        Block(4, 4),
    ],
    ids=["empty", "two classes", "no block", "no sequence", "deeper", "a block"],
)
def test_what_is_no_sequence_of_blocks_of_one_class_is_no_stage(other: nn.Module) -> None:
    found = network(one=nn.Sequential(Block(4, 4)), other=other, two=nn.Sequential(Block(4, 4)))
    assert [group.name for group in groups(found)] == ["two spatial", "two mix"]
