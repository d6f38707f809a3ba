"""The stages of a point: how long the solver works, when its zeros become final, and when its learning rate falls."""

from __future__ import annotations

import math
from dataclasses import replace

from benchmarks.training import Multistep, Recipe
from methods.families.structured.curve import recipe
from methods.interface import Run, Task
from methods.sparse_opt.config import Config


def planned(task: Task, config: Config, run: Run) -> tuple[Recipe, int, int]:
    """The solver's recipe, the steps of its first stage, and the steps of its second stage between two looks at ε."""
    found = recipe(config, run, config.solving)
    an_epoch = math.ceil(len(task.train) / found.batch)
    whole, rest = divmod(found.epochs, 1)
    steps = int(whole) * an_epoch + (max(1, round(rest * an_epoch)) if rest else 0)
    first = max(1, round(config.first * steps))
    drops = tuple(share * found.epochs for share in config.drops)
    every = max(1, min(an_epoch, (steps - first) // config.prunings))
    return replace(found, schedule=Multistep(drops)), first, every
