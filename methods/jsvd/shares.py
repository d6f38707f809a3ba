"""Which convolutions share a factor, and with which rank (Chen et al. 2023, §III-E and the official code)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from benchmarks.bitstream.modules import joined_conv2d, sequential
from methods.families.lowrank.layers import Group, base_rank, exact, whole_rank, width
from methods.families.lowrank.unfolding import first_of_pair, left_kernel, pair, right_kernel, second_of_pair, unfold
from methods.interface import ModuleSpec
from methods.jsvd import schemes

Scheme = Literal["ljsvd", "rjsvd1", "rjsvd2", "bijsvd"]


@dataclass(frozen=True)
class Share:
    """Convolutions that share factors: a right one of rank `right`, a left one of rank `left`, or one of each.

    A lone layer is a share of one member with a right factor: the truncated SVD.
    """

    name: str
    layers: Mapping[str, nn.Conv2d]
    right: int
    left: int


def shares(groups: Sequence[Group], scheme: Scheme | Literal["separate"], rate: float, p: float) -> list[Share]:
    """The shares of a network at rate ρ; "separate" (Tai et al.) sets the size of the joint schemes."""
    found = []
    for group in groups:
        joint = group.all() if scheme == "rjsvd1" else group.members
        if scheme == "separate" or len(joint) < 2:
            joint = ()
        alone = [path for path in group.all() if path not in joint]
        found += [Share(path, {path: group.layers[path]}, base_rank(group.layers[path], rate), 0) for path in alone]
        if joint:
            layers = {path: group.layers[path] for path in joint}
            found.append(Share(group.name, layers, *_joint_ranks(layers, scheme, rate, p)))
    return found


def _joint_ranks(layers: Mapping[str, nn.Conv2d], scheme: str, rate: float, p: float) -> tuple[int, int]:
    """(right, left): the rank that stores as many numbers as separate factors of the base rank would."""
    members = list(layers.values())
    last = members[-1]
    rows = [m.kernel_size[0] * m.in_channels for m in members]
    columns = last.kernel_size[1] * last.out_channels
    separate = sum(rows) + len(rows) * columns
    wanted = width(last) * exact(rate) * separate
    right, left = wanted / (sum(rows) + columns), wanted / (rows[-1] + len(rows) * columns)
    p = {"ljsvd": 1.0, "rjsvd1": 0.0, "rjsvd2": 0.0}.get(scheme, p)
    return (
        whole_rank(right * (1 - exact(p))) if p < 1 else 0,
        whole_rank(left * exact(p)) if p > 0 else 0,
    )


def structure(found: Sequence[Share]) -> tuple[dict[str, ModuleSpec], dict[str, str]]:
    """The decoder's edits and shared tensors: one pair of convolutions per layer, even if both factors are shared."""
    edits: dict[str, ModuleSpec] = {}
    tied: dict[str, str] = {}
    for share in found:
        both = share.right > 0 and share.left > 0
        one_sided = ["1.weight"] if share.right else ["0.weight"]
        shared = ["1.weights.0", "0.weights.1"] if both else one_sided
        first = next(iter(share.layers))
        for path, layer in share.layers.items():
            edits[path] = (
                _joined_pair(layer, (share.right, share.left)) if both else pair(layer, share.right or share.left)
            )
            if path != first:
                tied |= {f"{path}.{name}": f"{first}.{name}" for name in shared}
    return edits, tied


def _joined_pair(layer: nn.Conv2d, pieces: tuple[int, int]) -> ModuleSpec:
    """U_n V + U V_n as one pair: [U_n | U] · [V ; V_n], the same sum with half as many convolutions."""
    first = joined_conv2d.spec(layer.in_channels, pieces, 0, **first_of_pair(layer))
    second = joined_conv2d.spec(layer.out_channels, pieces, 1, **second_of_pair(layer))
    return sequential.spec(first, second)


def factors(found: Sequence[Share], sweeps: int) -> dict[str, Tensor]:
    """The tensors of `structure`, by path, decomposed from the layers' weights."""
    tensors: dict[str, Tensor] = {}
    for share in found:
        for path, (left, right) in _pieces(share, sweeps).items():
            height, width = share.layers[path].kernel_size
            kernels = [left_kernel(u, height) for u in left], [right_kernel(v, width) for v in right]
            for place, made in enumerate(kernels):
                names = (
                    [f"{path}.{place}.weight"] if len(made) == 1 else [f"{path}.{place}.weights.{i}" for i in (0, 1)]
                )
                tensors |= dict(zip(names, (kernel.float() for kernel in made), strict=True))
    return tensors


def _pieces(share: Share, sweeps: int) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
    """For each layer its left and its right factors, right-shared first."""
    matrices = [unfold(layer.weight.detach()) for layer in share.layers.values()]
    if share.right and share.left:
        private, right, left, parts = schemes.both_shared(matrices, share.right, share.left, sweeps, share.name)
        pieces = [([u, left], [right, v]) for u, v in zip(private, parts, strict=True)]
    elif share.right:
        lefts, right = schemes.right_shared(matrices, share.right, share.name)
        pieces = [([u], [right]) for u in lefts]
    else:
        left, rights = schemes.left_shared(matrices, share.left, share.name)
        pieces = [([left], [v]) for v in rights]
    return dict(zip(share.layers, pieces, strict=True))
