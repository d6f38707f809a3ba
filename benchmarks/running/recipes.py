"""How references are trained: the entry `references` of params.yaml, by task and network, or a pattern for several networks."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from benchmarks import tasks, training
from benchmarks.running import checks
from benchmarks.training.fitting import Fit
from benchmarks.training.meta_learning import Learning
from methods.interface import IMAGE_CODING

Positive: TypeAlias = Annotated[float, Meta(gt=0)]
Steps: TypeAlias = Annotated[int, Meta(ge=1)]
Recipes: TypeAlias = "dict[str, dict[str, Recipe | PictureRecipe]]"  # by task and by network or pattern


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`source` says where it comes from. The learning rate `lr` follows a cosine or, with `milestones`, `gamma` at each.

    `warmup` holds its factors in the epochs before that, which are among `epochs`. `decay_norm`: weight decay also applies to
    BatchNorm's scale and shift.
    """

    source: str
    epochs: Annotated[int, Meta(ge=1)]
    lr: Positive
    batch: Annotated[int, Meta(ge=1)] = 128
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Meta(ge=0)] = 5e-4
    decay_norm: bool = True
    milestones: tuple[Positive, ...] = ()
    gamma: Positive = 0.1
    warmup: tuple[Positive, ...] = ()

    def made(self) -> training.Recipe:
        """The recipe for `training.fit`."""
        schedule: training.Schedule = training.Cosine(max(self.epochs - len(self.warmup), 1), self.warmup)
        if self.milestones:
            schedule = training.Multistep(self.milestones, self.gamma, self.warmup)
        optimiser: training.Optimise = training.AdamW(self.weight_decay)
        if self.optimiser == "sgd":
            optimiser = training.SGD(self.momentum, self.weight_decay, self.nesterov)
        return training.Recipe(self.epochs, self.lr, self.batch, optimiser, schedule, self.decay_norm)


class StartRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of initial weights that are learned on other pictures: the fields of `benchmarks.training.meta_learning.Learning`."""

    steps: Steps
    lr: Positive = Learning.lr
    inner: Steps = Learning.inner
    rate: Positive = Learning.rate
    every: Steps = Learning.every
    patience: Steps = Learning.patience

    def made(self) -> Learning:
        return Learning(self.steps, self.lr, self.inner, self.rate, self.every, self.patience)


class PictureRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a network that is fitted to a picture: `source`, and the fields of `benchmarks.training.fitting.Fit`.

    With `start`, it is fitted from learned initial weights.
    """

    source: str
    steps: Steps
    lr: Positive = Fit.lr
    penalty: Annotated[float, Meta(ge=0)] = Fit.penalty
    share: Annotated[float, Meta(gt=0, le=1)] = Fit.share
    patience: Steps = Fit.patience
    stop: Steps = Fit.stop
    warmup: Annotated[int, Meta(ge=0)] = Fit.warmup
    start: StartRecipe | None = None

    @property
    def epochs(self) -> float:
        """How often all pixels are seen."""
        return self.steps * self.share

    def made(self) -> Fit:
        return Fit(self.steps, self.lr, self.penalty, self.share, self.patience, self.stop, self.warmup)


def checked(entry: Any, where: str) -> Recipes:
    """The recipes in the entry; raises RateBenchError for wrong names and settings."""
    found: Recipes = {}
    checks.known("task", checks.converted(entry, dict[str, Any], where), tasks.names(), where)
    for task, listed in entry.items():
        place, known = f"{where}, {task}", tasks.get(task).NETWORKS
        pictures = tasks.load(task, next(iter(known))).kind == IMAGE_CODING
        found[task] = {}
        for pattern, value in checks.converted(listed, dict[str, Any], place).items():
            if not fnmatch.filter(known, pattern):
                checks.known(f"network of task {task!r}", [pattern], known, place)
            found[task][pattern] = checks.struct(value, PictureRecipe if pictures else Recipe, f"{place}, {pattern}")
    return found


def of(recipes: Recipes, task: str, network: str) -> Recipe | PictureRecipe | None:
    """The recipe of a reference: that of its name or, without one, of the first pattern that matches it."""
    listed: Mapping[str, Recipe | PictureRecipe] = recipes.get(task, {})
    return listed.get(network) or next((one for key, one in listed.items() if fnmatch.fnmatchcase(network, key)), None)
