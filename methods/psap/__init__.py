"""PSAP-R: layers lose as many filters as their weights are sparse, and gradients bring back filters that were missed.

After the abstract of Li & Zhao, Protective Self-Adaptive Pruning to Better Compress DNNs (2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from benchmarks.training.scratch import initialise
from methods.families.structured import Keep, Prunable, curve
from methods.families.structured.soft import SoftSettings, refused, soft_recipe, train_softly
from methods.interface import Card, Compressed, Json, Run, Task
from methods.psap.protective import Protective
from methods.psap.pulse import Statistic
from methods.psap.sparsity import Threshold

CARD = Card(
    key="psap",
    title="Protective Self-Adaptive Pruning to Better Compress DNNs",
    authors=("Liang Li", "Pengfei Zhao"),
    venue="arXiv",
    year=2023,
    families=("structured pruning",),
    fidelity="reconstruction",
    budgets=("short", "paper"),
    arxiv="2303.11881",
    note="Only the abstract and a secondary overview were available: every equation and setting is this module's (PSAP-R).",
)


@dataclass(frozen=True)
class Config(SoftSettings):
    """Sparsity ratios by `threshold` (at `level`; of weights `normalised` by layer or not) set the layers' shares, which
    move by `adaptation` towards them and never exceed `most`. `schedule` says how the share removed grows, over `ramp`.

    After filters are set to zero, `pulse` batches of `batch` images show which the loss wants back by `statistic`: those
    with at least `theta` times the median return and stay for `hold` prunings; 0 protects none. `mode` "soft" lets
    zeros grow again, "hard" does not.
    """

    threshold: Threshold = "global_quantile"
    level: float = 0.3
    normalised: bool = False
    most: float = 0.9
    adaptation: float = 0.5
    schedule: Literal["constant", "cubic"] = "cubic"
    ramp: float = 0.5
    pulse: int = 5
    statistic: Statistic = "gate"
    theta: float = 3.0
    hold: int = 2
    mode: Literal["soft", "hard"] = "soft"
    start: Literal["pretrained", "scratch"] = "pretrained"
    prunings: int = 10


def unsupported(task: Task, config: Config) -> str | None:
    """Any convolutional network will do; what is refused is a configuration that can't be followed."""
    if config.threshold not in ("global_quantile", "relative", "absolute") or not config.level > 0:
        return "threshold has to be global_quantile, relative or absolute, and level above 0"
    if not (0 < config.most <= 1 and 0 < config.adaptation <= 1 and 0 < config.ramp <= 1):
        return "most, adaptation and ramp have to lie in (0, 1]"
    if config.statistic not in ("gate", "taylor", "raw") or config.mode not in ("soft", "hard"):
        return "statistic has to be gate, taylor or raw, and mode soft or hard"
    if config.schedule not in ("constant", "cubic") or config.start not in ("pretrained", "scratch"):
        return "schedule has to be constant or cubic, and start pretrained or scratch"
    if config.pulse < 1 or config.hold < 0 or not config.theta >= 0:
        return "pulse has to be at least 1, hold and theta at least 0"
    return refused(config)


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed; its notes are what each layer keeps, and how many filters came back."""

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        if config.start == "scratch" and all(mask.all() for mask in keep.values()):
            initialise(dense, run.generator("init"))
        recipe, steps, every = soft_recipe(task, config, run)
        pruning = Protective(dense, prunable, keep, goal, config, task, run, steps, every)
        train_softly(dense, prunable, keep, run, recipe, f"soft, {goal:.0f} MACs", pruning)
        left = {name: ~mask for name, mask in pruning.zeroed.items()}
        table = [[group.name, group.size, int(left[group.name].sum())] for group in prunable.groups]
        return left, {"layers": table, "restored": pruning.restored}

    return curve(task, config, run, choose)
