"""Reads and checks `params.yaml`: suites, budgets and configurations of methods."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec
import yaml

import methods
from benchmarks.configuration import plain
from benchmarks.errors import RateBenchError, UnknownName
from methods.interface import Budget, BudgetName, Method

PARAMS = Path("params.yaml")
Configs: TypeAlias = dict[str, dict[str, list[dict[str, Any]]]]  # by budget and method


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task, the networks and methods to compare, the seeds for random methods, and the budgets that `dvc repro` runs.

    `configs` replace the common ones for the methods that they name. `caution` is a warning that is shown wherever the
    suite's numbers are.
    """

    task: str
    networks: list[str]
    methods: list[str]
    seeds: list[int]
    budgets: tuple[BudgetName, ...] = ("post-training",)
    configs: Configs = {}
    caution: str = ""


class _Spent(msgspec.Struct, forbid_unknown_fields=True):
    epochs: float | None


class _Params(msgspec.Struct):
    """The entries of params.yaml besides suites."""

    budgets: dict[str, _Spent]
    configs: Configs


@functools.cache
def _params() -> dict[str, Any]:
    try:
        found = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
        msgspec.convert(found, _Params)
        return cast(dict[str, Any], found)
    except msgspec.ValidationError as error:
        msg = f"{PARAMS}: {error}"
        raise RateBenchError(msg) from error
    except FileNotFoundError as error:
        msg = f"there is no {PARAMS} in {Path.cwd()}: run in the root of the RateBench checkout"
        raise RateBenchError(msg) from error
    except yaml.YAMLError as error:
        msg = f"{PARAMS} is not valid YAML: {error}"
        raise RateBenchError(msg) from error


def names() -> list[str]:
    """The names of the suites."""
    return [name for name in _params() if name not in ("budgets", "configs")]


def suite(name: str) -> Suite:
    """The suite called `name`; raises UnknownName, or RateBenchError if params.yaml describes it wrongly."""
    if name not in names():
        raise UnknownName("suite", name, names())
    try:
        return msgspec.convert(_params()[name], Suite)
    except msgspec.ValidationError as error:
        msg = f"{PARAMS}, suite {name!r}: {error}"
        raise RateBenchError(msg) from error


def caution(name: str) -> str:
    """The suite's caution, or "" if params.yaml does not have the suite."""
    try:
        return suite(name).caution
    except RateBenchError:
        return ""


def budget(name: str) -> Budget:
    """The budget called `name`; raises UnknownName."""
    known: dict[str, dict[str, float | None]] = _params()["budgets"]
    if name not in known:
        raise UnknownName("budget", name, known)
    epochs = known[name]["epochs"]
    return Budget(cast(BudgetName, name), None if epochs is None else float(epochs))


def configs(suite_name: str, key: str, budget_name: str) -> list[dict[str, Any]]:
    """The configurations of a method at a budget, complete (defaults filled in) and checked field by field."""
    method = methods.get(key)
    shared: Configs = _params()["configs"]
    own = suite(suite_name).configs.get(budget_name, {})
    complete = []
    for changes in own.get(key) or shared.get(budget_name, {}).get(key, [{}]):
        known = plain(method.Config())
        for field in changes:
            if field not in known:
                kind = f"field of {key}'s Config in {PARAMS}"
                raise UnknownName(kind, field, known)
        complete.append(_complete(method, key, changes))
    return complete


def _complete(method: Method, key: str, changes: dict[str, Any]) -> dict[str, Any]:
    try:
        config = msgspec.convert({**plain(method.Config()), **changes}, method.Config)
    except msgspec.ValidationError as error:
        msg = f"{PARAMS}, configuration {changes} of {key!r}: {error}"
        raise RateBenchError(msg) from error
    return plain(config)
