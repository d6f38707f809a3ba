"""The unit of work, and everything on which its result depends."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

import methods
from benchmarks import configuration, tasks
from benchmarks.errors import in_short
from benchmarks.fingerprint import Code, code_hash, here, json_hash
from methods.interface import Budget

SCORING = ("benchmarks.bitstream.container", "benchmarks.evaluation.worker")


@dataclass(frozen=True)
class Cell:
    """One method with one configuration on one network, at one budget, with one seed."""

    suite: str
    task: str
    network: str
    method: str
    config: dict[str, Any]
    budget: Budget
    seed: int

    @property
    def config_hash(self) -> str:
        return configuration.config_hash(changes(self.method, self.config))

    @property
    def id(self) -> str:
        """Stable name; also the cell's folder under the results folder."""
        label = f"{self.config_hash}-{self.budget.name}-s{self.seed}"
        return "/".join((self.suite, self.network, self.method, label))

    @property
    def command(self) -> str:
        """The command that runs this cell again."""
        return (
            f"ratebench run {self.suite} --method {self.method} --network {self.network} "
            f"--config {self.config_hash} --budget {self.budget.name} --seed {self.seed}"
        )

    def ingredients(self) -> dict[str, str]:
        """One hash for each thing that the result depends on; they show what changed since a checkpoint."""
        return {
            "the code": code_hash(code(here(), methods.source(self.method), self.task, self.network)),
            "the configuration": json_hash(changes(self.method, self.config)),
            "the data or the reference": json_hash(tasks.get(self.task).provenance(self.network)),
            "the budget": json_hash({k: v for k, v in asdict(self.budget).items() if k == "epochs" or v is not None}),
            "the seed": str(self.seed),
        }

    def fingerprint(self) -> str:
        return json_hash(self.ingredients())[:16]

    def make_config(self) -> Any:
        return typed(self.method, self.config)

    def unsupported(self) -> str | None:
        """The reason why this cell can't be run, or None. Loads no data."""
        method, task = methods.get(self.method), tasks.load(self.task, self.network)
        if task.kind not in method.CARD.kinds:
            return f"works on {' and '.join(method.CARD.kinds)}, not on {task.kind}"
        if self.budget.name not in method.CARD.budgets:
            return f"has no {self.budget.name} recipe, only {', '.join(method.CARD.budgets)}"
        try:
            return method.unsupported(task, self.make_config())
        except (Exception, SystemExit) as error:  # it may import a library that fails in any way
            return f"could not say whether it works here: {in_short(error)}"


def code(known: Code, method: Path, task: str, network: str) -> frozenset[Path]:
    """The files that the result of a method on a task's network depends on.

    Tasks and architectures are found by name when a cell runs, so no import refers to them. The files include those of
    the cell, and of the architectures that the method's code names in a call.
    """
    used = known.sources(method, *SCORING, f"benchmarks.tasks.{task}")
    own = {file for file in known.sources(method) if not file.is_relative_to(known.root / "benchmarks")}
    architectures = {tasks.load(task, network).architecture, *known.architectures(own)}
    built = {f"benchmarks.networks.{name}" for name in architectures if name.isidentifier()}
    return used | known.sources(*built)


def changes(key: str, config: dict[str, Any]) -> dict[str, Any]:
    """The settings that differ from the method's defaults."""
    return configuration.changes(config, configuration.plain(methods.get(key).Config()))


def typed(key: str, config: dict[str, Any]) -> Any:
    return msgspec.convert(config, methods.get(key).Config)
