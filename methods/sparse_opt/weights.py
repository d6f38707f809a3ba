"""Single weights by OBProx-SG: training with the l1 norm as a penalty, then without it, with the zeros kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.training import SGD, Optimise, Recipe, fit
from benchmarks.training.scratch import initialise
from methods.families import sparse_grid, storage
from methods.families.grid import OnGrid
from methods.families.structured.soft import soft_recipe
from methods.interface import Compressed, Run, Task
from methods.sparse_opt.channels import stepwise
from methods.sparse_opt.config import Config
from methods.sparse_opt.orthant import OBProxSG


def curve(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per sparsity, each from the point before; `zeros` is the share of zeros that the solver found itself."""
    storage.check_names(task)
    network = task.reference()
    if config.start == "scratch":
        initialise(network, run.generator("init"))
    names = [f"{path}.weight" for path in storage.layers(network)]
    for sparsity in config.sparsities:
        recipe, steps, _ = soft_recipe(task, config, run)
        fit(network, task, run, stepwise(recipe, _solver(config, steps)), f"obprox, {sparsity:g} zeros")
        zeros, masks = _kept(network, names, sparsity)
        fit(network, task, run, _afterwards(recipe, config), f"{sparsity:g} zeros", masks, OnGrid(network, config.bits))
        parts = sparse_grid.parts(network, config.bits)
        label, notes = {"sparsity": sparsity}, {"zeros": round(zeros, 4)}
        yield Compressed(task.architecture, task.arguments, parts, label, notes=notes)


def _solver(config: Config, steps: int) -> Optimise:
    """OBProx-SG+: no proximal step after the first orthant step."""

    def optimise(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return OBProxSG(groups, config.strength, prox=max(1, round(config.first * steps)))

    return optimise


def _afterwards(recipe: Recipe, config: Config) -> Recipe:
    """The recipe of the epochs after the solver's, without the penalty: as for channels."""
    return replace(
        recipe, epochs=recipe.epochs / (1 - config.hard) * config.hard, optimiser=SGD(weight_decay=config.weight_decay)
    )


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
