"""`ratebench train`: reference networks, trained on this machine by the recipes in params.yaml.

The last epoch counts; validation and test items choose nothing. Training continues after an interruption from its last epoch.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
from torch import nn

from benchmarks import networks, seeds, tasks
from benchmarks.errors import RateBenchError
from benchmarks.evaluation import scoring
from benchmarks.fingerprint import code_hash, json_hash, sources
from benchmarks.running import environment, params, starting
from benchmarks.running.lent import Say
from benchmarks.running.recipes import PictureRecipe, Recipe
from benchmarks.running.speed import speed
from benchmarks.running.training_run import TrainingRun
from benchmarks.tasks.kinds import trained
from benchmarks.training import fit, fitting
from methods.interface import Task


def train(task_name: str, network: str, say: Say) -> Path:
    """Train a reference, unless it is trained already; returns the file of its tensors.

    Raises UnknownName for the task or the network, RateBenchError for one without a recipe, and what `fit` raises.
    """
    train_all(task_name, [network], say)
    return trained.path(task_name, network)


def train_all(task_name: str, networks: Sequence[str], say: Say) -> None:
    """The same for several references. Pictures of one size are fitted together, if their recipes are the same."""
    together: dict[str, tuple[Recipe | PictureRecipe, list[Task]]] = {}
    for network in networks:
        task, recipe = tasks.load(task_name, network), params.recipe(task_name, network)
        if recipe is None:
            msg = (
                f"{task_name}, {network}: params.yaml has no recipe for it under references, so it is not trained here"
            )
            raise RateBenchError(msg)
        if trained.cached(task_name, network) is not None:
            say(f"{task_name}, {network}: trained already, {trained.path(task_name, network)}")
            continue
        pictures = isinstance(recipe, PictureRecipe)
        key = json_hash([dict(task.arguments), msgspec.to_builtins(recipe), "" if pictures else network])
        together.setdefault(key, (recipe, []))[1].append(task)
    for recipe, group in together.values():
        _train(group, recipe, say)


def _train(group: Sequence[Task], recipe: Recipe | PictureRecipe, say: Say) -> None:
    """Train references by one recipe: a usual network, or the networks of pictures of one size."""
    first, names, settings = group[0], [task.network for task in group], msgspec.to_builtins(recipe)
    code = code_hash(sources(f"benchmarks.tasks.{first.name}", f"benchmarks.networks.{first.architecture}"))
    key = json_hash([settings, code, *([] if len(group) == 1 else [names])])[:16]
    work = trained.path(first.name, first.network).parents[2] / ".work"
    folder = work / f"references--{first.name}--{first.network}--{key}"
    run = TrainingRun(folder, ("reference", first.name, first.network), say)
    made = [initial(task) for task in group]
    kept = made
    if isinstance(recipe, PictureRecipe):
        splits = [task.train for task in group]
        start = starting.start(first, recipe.start, say) if recipe.start else None
        colours = torch.cat([split.targets for split in splits])
        found = fitting.fitted(made, splits[0].inputs[0], colours, recipe.made(), run, start)
        for network, state in zip(made, found, strict=True):
            network.load_state_dict(state)
    else:
        part, seen = _trainable(made[0], first)
        kept = [part]
        fit(part, seen, run, recipe.made(), "reference")
    seconds = run.seconds()
    for network, part, task in zip(made, kept, group, strict=True):
        note = {
            "recipe": settings,
            "validation": _validation(network, task),
            **({"together": len(group)} if len(group) > 1 else {}),
        }
        run.keep(trained.path(task.name, task.network), part.state_dict(), note, seconds)
    shutil.rmtree(run.folder, ignore_errors=True)


def initial(task: Task) -> nn.Module:
    """The untrained network; each reference has its own initial weights, the same on every machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive("reference", task.name, task.network))
        return networks.build(task.architecture, task.arguments)


def _trainable(network: nn.Module, task: Task) -> tuple[nn.Module, Task]:
    """What is trained and kept: the network or, where the task says so, a part of it with the task as it sees it."""
    of: Callable[[nn.Module, Task], tuple[nn.Module, Task]] | None = getattr(tasks.get(task.name), "trainable", None)
    return of(network, task) if of else (network, task)


def _validation(network: nn.Module, task: Task) -> dict[str, float]:
    """The mean of each metric over the validation items."""
    found = scoring.scores(network, task.validation, task, range(len(task.validation)))
    return {name: float(values.double().mean()) for name, values in found.items()}


def hours(task: str, network: str) -> float | None:
    """How long the training of a reference will take on this machine; None if it is trained, or is not trained here."""
    recipe = params.recipe(task, network)
    if recipe is None or trained.path(task, network).exists():
        return None
    return recipe.epochs * tasks.get(task).ITEMS[0] / speed(task, network, environment.device()).training / 3600
