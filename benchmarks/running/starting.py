"""Learned initial weights of a task's sine networks: loaded or, the first time, learned on the pictures that the task names."""

from __future__ import annotations

import shutil
from typing import cast

import msgspec
import torch
from torch import nn

from benchmarks import networks, seeds
from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import code_hash, json_hash, sources
from benchmarks.networks.sine import coordinates
from benchmarks.running.lent import Say
from benchmarks.running.recipes import StartRecipe
from benchmarks.running.training_run import TrainingRun
from benchmarks.tasks.kinds import starts
from benchmarks.tasks.kinds.pictures import Picture
from benchmarks.training import meta_learning
from benchmarks.training.fitting import Start
from methods.interface import Task


def start(task: Task, recipe: StartRecipe, say: Say) -> Start:
    """The start of a task's networks, learned by the recipe unless it is there already.

    Raises RateBenchError for a task that names no pictures to learn from or weights that were learned by another recipe, and
    TaskError if its pictures can't be fetched.
    """
    picture, settings = cast(Picture, task), msgspec.to_builtins(recipe)
    if picture.learn_from is None:
        msg = f"params.yaml, references: {task.name}, {task.network} has a start, but no pictures to learn it from"
        raise RateBenchError(msg)
    file, network = starts.path(picture.start), _untrained(picture)
    if file.exists():
        if starts.recipe(picture.start) != settings:
            msg = (
                f"{file} was learned by another recipe than the one of {task.name}, {task.network} in params.yaml: use that, "
                "or move the file away to learn it again"
            )
            raise RateBenchError(msg)
        return starts.start(picture.start, network)
    key = json_hash([settings, code_hash(sources("benchmarks.training.meta_learning"))])[:16]
    folder = file.parents[2] / ".work" / f"starts--{picture.start}--{key}"
    run = TrainingRun(folder, ("start", task.name, picture.start), say)
    size, train, validation = picture.learn_from()
    found = meta_learning.learned(network, coordinates(*size), train, validation, recipe.made(), run)
    run.keep(file, starts.named(found, network), {"recipe": settings}, run.seconds())
    shutil.rmtree(run.folder, ignore_errors=True)
    return found


def _untrained(task: Picture) -> nn.Module:
    """The same for all networks of a task that have one width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive("start", task.start))
        return networks.build(task.architecture, task.arguments)
