"""Single weights by OBProx-SG: training with the l1 norm as a penalty, then without it, with the zeros kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.training import Optimise, fit
from benchmarks.training.scratch import initialise
from methods.families import sparse_grid, storage
from methods.families.grid import OnGrid
from methods.families.structured.curve import recipe
from methods.interface import Compressed, Run, Task
from methods.sparse_opt.config import Config
from methods.sparse_opt.orthant import OBProxSG
from methods.sparse_opt.stages import planned


def curve(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per sparsity, each from the point before, whose zeros are final: only the first point has proximal steps.

    `zeros` is the share of zeros that the solver found itself, with those of the points before.
    """
    storage.check_names(task)
    network = task.reference()
    if config.start == "scratch":
        initialise(network, run.generator("init"))
    names = [f"{path}.weight" for path in storage.layers(network)]
    for point, sparsity in enumerate(config.sparsities):
        training, first, _ = planned(task, config, run)
        solver = _solver(config.strength, 0 if point else first)
        fit(network, task, run, replace(training, optimiser=solver), f"obprox, {sparsity:g} zeros")
        zeros, masks = _kept(network, names, sparsity)
        afterwards = recipe(config, run, config.hard)
        fit(network, task, run, afterwards, f"{sparsity:g} zeros", masks, OnGrid(network, config.bits))
        parts = sparse_grid.parts(network, config.bits)
        label, notes = {"sparsity": sparsity}, {"zeros": round(zeros, 4)}
        yield Compressed(task.architecture, task.arguments, parts, label, notes=notes)


def _solver(strength: float, prox: int) -> Optimise:
    """OBProx-SG+: `prox` proximal steps, and none after the first orthant step."""

    def optimise(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return OBProxSG(groups, strength, prox)

    return optimise


@torch.no_grad()
def _kept(network: nn.Module, names: list[str], sparsity: float) -> tuple[float, dict[str, Tensor]]:
    """The solver's share of zeros, and masks of weights to keep: the smallest ones become zero until `sparsity` is reached."""
    parameters = dict(network.named_parameters())
    every = torch.cat([parameters[name].flatten() for name in names]).abs()
    kept = every > 0
    zeros = 1 - float(kept.double().mean())
    kept[every.argsort(stable=True)[: round(sparsity * len(every))]] = False
    shares = torch.split(kept, [parameters[name].numel() for name in names])
    masks = {name: share.view(parameters[name].shape) for name, share in zip(names, shares, strict=True)}
    for name, mask in masks.items():
        parameters[name].mul_(mask)
    return zeros, masks
