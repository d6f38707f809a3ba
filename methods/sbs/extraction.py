"""The network that the gates chose: narrower layers with fixed bits, whose clip ranges are those of the search."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.bitstream import blueprint
from methods.families.quantised_activations import Quantised, replace
from methods.families.structured import surgery
from methods.families.structured.surgery import Plan
from methods.interface import Json, Task
from methods.sbs.searched import Searched


@torch.no_grad()
def extracted(task: Task, network: Searched) -> tuple[nn.Module, Plan]:
    """The chosen network in eval mode on the CPU, for training with `Quantised` layers, and the surgery that made it.

    It computes what the searched network computes in eval mode. If that has no grids, its layers are ordinary ones.
    """
    dense, own = task.reference(), blueprint.state(network.network)
    gated = network.layers()
    for path, module in gated.items():
        dense.get_submodule(path).load_state_dict(module.layer.state_dict())
    for name, tensor in blueprint.state(dense).items():
        if name in own:
            tensor.copy_(own[name])
    plan = surgery.plan(dense, network.groups, network.keep())
    narrow = plan.slim(dense).realise(task, dense)
    for path, module in gated.items():
        if module.weights is not None:
            layer: Any = narrow.get_submodule(path)
            inputs = module.inputs
            bits = (module.weights.bits(), 0 if inputs is None else inputs.bits())
            made = Quantised(layer, *bits, signed=inputs is not None and inputs.signed)
            made.weight_clip.copy_(module.weights.clip)
            if inputs is not None and made.clip is not None:
                made.clip.copy_(inputs.clip)
            replace(narrow, path, made)
    return narrow.eval(), plan


def table(network: Searched) -> list[Json]:
    """For each layer: path, bits of weights and of inputs (32: as they are), and the filters that remain, of how many."""
    kept = {
        member.path: mask
        for group, mask in zip(network.groups, network.keep().values(), strict=True)
        for member in group.side("out")
    }
    rows: list[Json] = []
    for path, module in network.layers().items():
        sides = [32 if grid is None else grid.bits() for grid in (module.weights, module.inputs)]
        filters = len(module.layer.weight)
        rows.append([path, *sides, int(kept[path].sum()) if path in kept else filters, filters])
    return rows
