"""Groups of convolutions: those at one position in the repeated blocks of a stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from benchmarks.errors import MethodError


@dataclass(frozen=True)
class Group:
    """Convolutions at one position of a stage's blocks: paths in order, and shapes as in the dense network.

    `odd` is the first block's convolution if its input is narrower than those of the others ("HID layer": Chen et al.,
    Neurocomputing 2023, §IV); it is not among `members`.
    """

    name: str
    members: tuple[str, ...]
    odd: str | None
    layers: Mapping[str, nn.Conv2d]

    def all(self) -> tuple[str, ...]:
        return self.members if self.odd is None else (self.odd, *self.members)


def base_rank(layer: nn.Conv2d, rate: float) -> int:
    """The rank of a separate layer at rate ρ: ⌊ρ·O⌋, or of the smaller side for a 1×1 convolution; at least 1."""
    return whole_rank(width(layer) * exact(rate))


def width(layer: nn.Conv2d) -> int:
    """The number that a rate multiplies: outputs of a k×k convolution, the smaller side of a 1×1 one."""
    return layer.out_channels if layer.kernel_size != (1, 1) else min(layer.in_channels, layer.out_channels)


def whole_rank(rank: Fraction) -> int:
    return max(1, math.floor(rank))


def exact(decimal: float) -> Fraction:
    """The decimal number as written, not its binary approximation: 0.07 · 100 is 7, not slightly less."""
    return Fraction(repr(decimal))


def groups(network: nn.Module) -> list[Group]:
    """The groups of all stages but the first; the stem, shortcuts and the classifier are not included.

    A stage is a top-level nn.Sequential of blocks: modules of one class with convolutions as direct children. Deeper
    convolutions, e.g. in a shortcut, are in no group. Raises MethodError for members of unequal shapes, and for
    layers that are grouped, dilated, biased, padded by name or not padded with zeros.
    """
    stages = {name: blocks for name, child in network.named_children() if (blocks := _blocks(child))}
    return [group for name in list(stages)[1:] for group in _grouped(name, stages[name])]


def _blocks(stage: nn.Module) -> dict[str, dict[str, nn.Conv2d]]:
    """The blocks of a stage, by name, with their convolutions; empty for others."""
    children = dict(stage.named_children()) if isinstance(stage, nn.Sequential) else {}
    blocks = {
        name: {place: m for place, m in block.named_children() if isinstance(m, nn.Conv2d)}
        for name, block in children.items()
    }
    alike = len({type(block) for block in children.values()}) == 1
    return blocks if alike and all(blocks.values()) else {}


def _grouped(stage: str, blocks: Mapping[str, Mapping[str, nn.Conv2d]]) -> Iterator[Group]:
    positions = list(dict.fromkeys(place for block in blocks.values() for place in block))
    for position in positions:
        name = f"{stage} {position}"
        own = {f"{stage}.{block}.{position}": convs[position] for block, convs in blocks.items() if position in convs}
        paths = list(own)
        odd = paths[0] if position == positions[0] else None
        members = paths if odd is None else paths[1:]
        if odd is not None and members and own[odd].in_channels == own[members[0]].in_channels:
            odd, members = None, paths
        shapes = {path: tuple(own[path].weight.shape) for path in members}
        if len(set(shapes.values())) > 1:
            listed = ", ".join(f"{path} {shape}" for path, shape in shapes.items())
            msg = f"the convolutions of {name} have unequal shapes and can't share a factor: {listed}"
            raise MethodError(msg)
        for path, layer in own.items():
            if layer._parameters.get("weight") is None:
                msg = f"{path} computes its weight from other tensors, e.g. by weight_norm: it can't be factorised"
                raise MethodError(msg)
            if (
                layer.groups != 1
                or layer.dilation != (1, 1)
                or layer.bias is not None
                or isinstance(layer.padding, str)
                or layer.padding_mode != "zeros"
            ):
                msg = (
                    f"{path} is grouped, dilated, biased, padded by name or not padded with zeros: "
                    "two smaller convolutions can't replace it"
                )
                raise MethodError(msg)
        yield Group(name, tuple(members), odd, own)
