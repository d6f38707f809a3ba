"""Residual blocks that can be removed as a whole: an identity shortcut bypasses all of their layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from methods.families.structured.channels import Group


@torch.no_grad()
def find(network: nn.Module, groups: Sequence[Group], example: Tensor) -> dict[str, list[str]]:
    """The blocks of a network for inputs like `example` (1, C, H, W): path -> the groups inside the block.

    A module is a residual block if it returns its input when its BatchNorms are zero. Of nested blocks, the innermost
    counts; blocks without a group inside are left out.
    """
    seen: dict[str, Tensor] = {}

    def keep(path: str, inputs: Any) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor):
            seen[path] = inputs[0].clone()

    hooks = [
        module.register_forward_pre_hook(lambda _m, inputs, path=path: keep(path, inputs))
        for path, module in network.named_modules()
        if path and not isinstance(module, nn.BatchNorm2d) and _norms(module)
    ]
    network.eval()(example)
    for hook in hooks:
        hook.remove()
    silent = copy.deepcopy(network)
    for norm in _norms(silent):
        for parameter in norm.parameters():
            parameter.zero_()

    def returns(path: str, inputs: Tensor) -> bool:
        output = silent.get_submodule(path)(inputs.clone())  # some modules work in place
        return bool(inputs.any()) and isinstance(output, Tensor) and torch.equal(output, inputs)

    found = [path for path, inputs in seen.items() if returns(path, inputs)]
    innermost = [path for path in found if not any(other.startswith(f"{path}.") for other in found)]
    inside = {path: [g.name for g in groups if _inside(g, path)] for path in sorted(innermost)}
    return {path: names for path, names in inside.items() if names}


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def _inside(group: Group, path: str) -> bool:
    return all(member.path.startswith(f"{path}.") for member in group.members)
