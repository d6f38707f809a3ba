"""`ratebench train`: reference networks, trained on this machine by the recipes in params.yaml.

The last epoch counts; validation and test items choose nothing. Training continues after an interruption from its last epoch.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import nn

from benchmarks import networks, seeds, storage, tasks
from benchmarks.errors import RateBenchError
from benchmarks.evaluation import scoring
from benchmarks.fingerprint import code_hash, json_hash, sources
from benchmarks.running import environment, params
from benchmarks.running.contents import tensors_hash
from benchmarks.running.lent import Say
from benchmarks.running.recipes import PictureRecipe, Recipe
from benchmarks.running.speed import speed
from benchmarks.tasks.kinds import trained
from benchmarks.training import fit, fitting
from methods.interface import Budget, Task

START_OVER = "remove it to begin this training again"


class _Run:
    """Satisfies `methods.interface.Run`: a checkpoint after each epoch in `folder`, which belongs to this training alone."""

    def __init__(self, task: Task, folder: Path, say: Say) -> None:
        self.seed, self.device, self.budget = 0, environment.device(), Budget("paper", None)
        self._names, self._folder, self._say = ("reference", task.name, task.network), folder, say

    def generator(self, *names: str | int) -> torch.Generator:
        return seeds.generator(*self._names, *names)

    def progress(self, message: str) -> None:
        self._say(f"{self._names[1]}, {self._names[2]}: {message}")

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        storage.save_tensors(self._folder / f"{stage}.pt", state)

    def restore(self, stage: str) -> dict[str, Any] | None:
        file = self._folder / f"{stage}.pt"
        return storage.load_own(file, START_OVER) if file.exists() else None


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
    path = trained.path(first.name, first.network)
    folder = path.parents[2] / ".work" / f"references--{first.name}--{first.network}--{key}"
    started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    commit, dirty = environment.commit()
    run, made = _Run(first, folder, say), [initial(task) for task in group]
    kept = made
    if isinstance(recipe, PictureRecipe):
        splits = [task.train for task in group]
        found = fitting.fitted(made, splits[0].inputs[0], torch.cat([s.targets for s in splits]), recipe.made(), run)
        for network, state in zip(made, found, strict=True):
            network.load_state_dict(state)
    else:
        part, seen = _trainable(made[0], first)
        kept = [part]
        fit(part, seen, run, recipe.made(), "reference")
    seconds = round(time.perf_counter() - begin, 1)
    for network, part, task in zip(made, kept, group, strict=True):
        tensors = {name: tensor.contiguous() for name, tensor in part.state_dict().items()}
        note = {
            "recipe": settings,
            "validation": _validation(network, task),
            "tensors": tensors_hash(tensors),
            "commit": commit,
            "dirty": dirty,
            "command": f"ratebench {' '.join(sys.argv[1:])}",
            "started": started,
            "seconds": seconds,
            **({"together": len(group)} if len(group) > 1 else {}),
            "versions": environment.versions(),
            "cpu": environment.cpu(),
            "gpu": environment.gpu(),
        }
        file = trained.path(task.name, task.network)
        storage.write(file.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(note), indent=1) + b"\n")
        storage.write(file, safetensors.torch.save(tensors))
        say(f"{task.name}, {task.network}: trained, {file}")
    shutil.rmtree(folder, ignore_errors=True)


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
