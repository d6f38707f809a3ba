"""Reads and checks `params.yaml`: suites, budgets and configurations of methods.

The whole file is checked when it is read, whichever suite is asked for: a name that is wrong anywhere is an error, and so is a
list that is empty or has an entry twice. Two checks wait, because they need code that may not work on this machine: networks
are checked when their suite is asked for, and the settings of a method that can't be imported when its cells are planned.

The `name` of a configuration is for readers. It is no setting of the method, so that no id and no fingerprint depends on it.
"""

from __future__ import annotations

import contextlib
import functools
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import msgspec
from msgspec import Meta

import methods
from benchmarks import configuration, tasks
from benchmarks.configuration import plain
from benchmarks.errors import BrokenModule, MethodError, RateBenchError, UnknownName, in_short
from benchmarks.running import checks, recipes, strict_yaml
from benchmarks.running.recipes import PictureRecipe, Recipe, Recipes
from methods.interface import Budget, BudgetName

PARAMS = Path("params.yaml")
Changes: TypeAlias = dict[str, Any]
Configs: TypeAlias = dict[str, dict[str, list[Changes]]]  # by budget and method
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_BUDGETS, _CONFIGS, _REFERENCES = "budgets", "configs", "references"
_NAME, _LETTERS = "name", 40  # of a configuration, and how many letters it may have
_SUITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # also a folder of results


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task, the networks and methods to compare, the seeds for random methods, and the budgets that `dvc repro` runs.

    `configs` replace the common ones for the methods that they name. `caution` is a warning that is shown wherever the
    suite's numbers are. `average` says in the plural what the networks are, if their results are averaged: the page then also
    shows the mean over all of them.
    """

    task: str
    networks: list[str]
    methods: list[str]
    seeds: list[Seed]
    budgets: tuple[str, ...] = ("post-training",)
    configs: Configs = {}
    caution: str = ""
    average: str = ""


Rates: TypeAlias = dict[str, dict[str, dict[str, Annotated[float, Meta(gt=0, le=10)]]]]  # by task, network and method


class _Spent(msgspec.Struct, forbid_unknown_fields=True):
    epochs: Annotated[float, Meta(ge=0)] | None
    learning_rates: Rates = {}


@dataclass(frozen=True)
class _Params:
    suites: dict[str, Suite]
    budgets: dict[str, Budget]
    rates: dict[str, Rates]  # learning rates by budget
    configs: Configs
    recipes: Recipes


def names() -> list[str]:
    """The names of the suites."""
    return list(_params().suites)


def suite(name: str) -> Suite:
    """The suite called `name`; raises UnknownName for it or one of its networks, RateBenchError if params.yaml is wrong."""
    if name not in names():
        raise UnknownName("suite", name, names())
    found = _params().suites[name]
    with contextlib.suppress(BrokenModule):  # its cells can't run, but its records can be shown
        known = tasks.get(found.task).NETWORKS
        checks.known(f"network of task {found.task!r}", found.networks, known, f"{PARAMS}, suite {name!r}")
    return found


def caution(name: str) -> str:
    """The suite's caution, or "" if there is no params.yaml or if it does not have the suite."""
    return suite(name).caution if PARAMS.exists() and name in names() else ""


def averaged(name: str) -> tuple[list[str], str]:
    """(the networks over which results of the suite are averaged, what the mean is called); none if they are not."""
    known = suite(name) if PARAMS.exists() and name in names() else None
    if known is None or not known.average:
        return [], ""
    return known.networks, f"mean of {len(known.networks)} {known.average}"


def budget(name: str, task: str = "", network: str = "", key: str = "") -> Budget:
    """The budget called `name`, with the learning rate of a method on a task's network; raises UnknownName."""
    known = _params().budgets
    if name not in known:
        raise UnknownName("budget", name, known)
    return replace(known[name], learning_rate=_params().rates[name].get(task, {}).get(network, {}).get(key))


def recipe(task: str, network: str) -> Recipe | PictureRecipe | None:
    """How a reference is trained here; None if it is not."""
    return recipes.of(_params().recipes, task, network)


def configs(suite_name: str, key: str, budget_name: str) -> list[Changes]:
    """The configurations of a method at a budget, complete (defaults filled in) and checked field by field.

    Raises MethodError if the method is broken.
    """
    return [config for config, _ in _listed(suite_name, key, budget_name)]


def config_name(suite_name: str, key: str, budget_name: str, changed: Changes) -> str:
    """The name of the configuration with these changes to the defaults; "" if it has none. Raises what `configs` raises."""
    known = defaults(key)
    listed = _listed(suite_name, key, budget_name)
    return next((name for config, name in listed if configuration.changes(config, known) == changed), "")


def _listed(suite_name: str, key: str, budget_name: str) -> list[tuple[Changes, str]]:
    own, shared = suite(suite_name).configs.get(budget_name, {}), _params().configs.get(budget_name, {})
    return _complete(key, own.get(key) or shared.get(key) or [{}], f"{PARAMS}, {budget_name}")


def defaults(key: str) -> Changes:
    """The default configuration of a method; raises MethodError if the method is broken."""
    method = methods.get(key)
    try:
        return plain(method.Config())
    except Exception as error:  # a method of a third party can fail in any way
        msg = f"method {key!r} has no default configuration ({in_short(error)}): correct its Config"
        raise MethodError(msg) from error


@functools.cache
def _params() -> _Params:
    try:
        found = strict_yaml.read(PARAMS)
    except FileNotFoundError as error:
        msg = f"there is no {PARAMS} in {Path.cwd()}: run in the root of the RateBench checkout"
        raise RateBenchError(msg) from error
    if not found or not isinstance(found, dict):
        msg = f"{PARAMS} is empty or no mapping: it must name suites, {_BUDGETS} and {_CONFIGS}"
        raise RateBenchError(msg)
    for missing in {_BUDGETS, _CONFIGS} - found.keys():
        for name, entry in found.items():
            if name not in (_BUDGETS, _CONFIGS) and not (isinstance(entry, dict) and "task" in entry):
                checks.known("entry", [name], [missing], str(PARAMS))
        msg = f"{PARAMS} has no entry {missing!r}"
        raise RateBenchError(msg)
    spent = dict(_budgets(found.pop(_BUDGETS)))
    budgets = {name: Budget(cast(BudgetName, name), each.epochs) for name, each in spent.items()}
    shared = _checked(found.pop(_CONFIGS), budgets, f"{PARAMS}, {_CONFIGS}")
    trained = recipes.checked(found.pop(_REFERENCES, {}), f"{PARAMS}, {_REFERENCES}")
    if not found:
        msg = f"{PARAMS} has no suite"
        raise RateBenchError(msg)
    suites = {name: _suite(name, entry, budgets) for name, entry in found.items()}
    for name, each in spent.items():
        _check_rates(name, each.learning_rates, suites.values())
    return _Params(suites, budgets, {name: each.learning_rates for name, each in spent.items()}, shared, trained)


def _budgets(entry: Any) -> Iterator[tuple[str, _Spent]]:
    where = f"{PARAMS}, {_BUDGETS}"
    checks.filled(checks.converted(entry, dict[str, Any], where), where)
    checks.known("budget", entry, typing.get_args(BudgetName), where)
    for name, value in entry.items():
        spent = checks.struct(value, _Spent, f"{where}, {name}")
        if name == "post-training" and spent.epochs != 0:
            msg = f"{where}, {name}: it has no training, so its epochs are 0"
            raise RateBenchError(msg)
        if spent.learning_rates and not spent.epochs:
            msg = f"{where}, {name}: it has no number of epochs, so it can't have learning_rates"
            raise RateBenchError(msg)
        yield name, spent


def _check_rates(budget_name: str, rates: Rates, suites: Iterable[Suite]) -> None:
    """Raise RateBenchError for a learning rate that no cell would have."""
    where = f"{PARAMS}, {_BUDGETS}, {budget_name}, learning_rates"
    used: dict[str, list[str]] = {}
    for suite in suites:
        used.setdefault(suite.task, []).extend(suite.networks)
    checks.known("task", rates, used, where)
    for task, networks in rates.items():
        checks.known("network", networks, used[task], f"{where}, {task}")
        for network, by_method in networks.items():
            place = f"{where}, {task}, {network}"
            checks.known("method", by_method, methods.names(), place)
            for key in by_method:
                with contextlib.suppress(BrokenModule):
                    if budget_name not in methods.get(key).CARD.budgets:
                        msg = f"{place}: {key} has no {budget_name} recipe, so it has no learning rate"
                        raise RateBenchError(msg)


def _suite(name: str, entry: Any, budgets: Iterable[str]) -> Suite:
    where = f"{PARAMS}, suite {name!r}"
    if not _SUITE_NAME.fullmatch(name):
        msg = f"{where}: the name must consist of letters, digits, '.', '_' and '-', starting with a letter or a digit"
        raise RateBenchError(msg)
    if isinstance(entry, dict):  # first, because its complaints name the place
        _checked(entry.get(_CONFIGS, {}), budgets, f"{where}, {_CONFIGS}")
    found: Suite = checks.struct(entry, Suite, where)
    for field in ("networks", "methods", "seeds", "budgets"):
        checks.filled(getattr(found, field), f"{where}, {field}")
        checks.unique(getattr(found, field), f"{where}, {field}")
    checks.known("task", [found.task], tasks.names(), where)
    checks.known("method", found.methods, methods.names(), where)
    checks.known("budget", found.budgets, budgets, where)
    return found


def _checked(entry: Any, budgets: Iterable[str], where: str) -> Configs:
    """Configurations by budget and method; raises RateBenchError for wrong names and settings."""
    checks.known("budget", checks.converted(entry, dict[str, Any], where), budgets, where)
    for budget_name, by_method in entry.items():
        place = f"{where}, {budget_name}"
        checks.known("method", checks.converted(by_method, dict[str, Any], place), methods.names(), place)
        for key, listed in by_method.items():
            checks.filled(checks.converted(listed, list[Changes], f"{place}, {key}"), f"{place}, {key}")
            with contextlib.suppress(MethodError):
                _complete(key, listed, place)
    return cast(Configs, entry)


def _complete(key: str, listed: Sequence[Changes], where: str) -> list[tuple[Changes, str]]:
    """Configurations with the defaults filled in, and their names; "" for those without one.

    Raises MethodError if the method is broken, else RateBenchError.
    """
    known, kind = defaults(key), methods.get(key).Config
    if _NAME in known:
        msg = f"method {key!r} has a setting {_NAME!r}, which {PARAMS} uses for the names of configurations: rename it"
        raise MethodError(msg)
    complete: list[tuple[Changes, str]] = []
    for entry in listed:
        changes = {setting: value for setting, value in entry.items() if setting != _NAME}
        checks.known(f"field of {key}'s Config", changes, [*known, _NAME], where)
        full = plain(checks.converted({**known, **changes}, kind, f"{where}, configuration {changes} of {key!r}"))
        place = f"{where}, {key}: entry {len(complete) + 1}, {changes},"
        if any(full == config for config, _ in complete):
            msg = f"{place} is the same configuration as an earlier one"
            raise RateBenchError(msg)
        name = _checked_name(entry[_NAME], [name for _, name in complete], place) if _NAME in entry else ""
        complete.append((full, name))
    return complete


def _checked_name(name: Any, taken: Sequence[str], place: str) -> str:
    if not (isinstance(name, str) and name.isprintable() and name == name.strip() and 0 < len(name) <= _LETTERS):
        msg = f"{place} has the name {name!r}: write 1 to {_LETTERS} printable letters, without spaces around them"
        raise RateBenchError(msg)
    if name in taken:
        msg = f"{place} has the name {name!r} of an earlier one: give each its own"
        raise RateBenchError(msg)
    return name
