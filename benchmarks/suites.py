"""Which cells a suite has: `params.yaml`, read and checked."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec
import yaml

import methods
from benchmarks import tasks
from benchmarks.errors import RateBenchError, UnknownName
from benchmarks.fingerprint import code_hash, json_hash, sources
from methods.interface import Budget, BudgetName, Method

PARAMS = Path("params.yaml")
SCORING = ("benchmarks/bitstream/container.py", "benchmarks/scorer.py")


Configs: TypeAlias = dict[str, dict[str, list[dict[str, Any]]]]  # by budget and method


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task, the networks and methods that are compared on it, the seeds of what is random.

    `configs` are this suite's own, for the methods that it names there; `configs` beside the suites are for all others.
    `caution` says what its numbers are not; it stands wherever they are shown.
    """

    task: str
    networks: list[str]
    methods: list[str]
    baselines: list[str]
    seeds: list[int]
    configs: Configs = {}
    caution: str = ""


@dataclass(frozen=True)
class Cell:
    """The unit of work: one method with one configuration on one network, at one budget, with one seed."""

    suite: str
    task: str
    network: str
    method: str
    config: dict[str, Any]
    budget: Budget
    seed: int

    @property
    def config_hash(self) -> str:
        return config_hash(self.method, self.config)

    @property
    def id(self) -> str:
        """Stable name; also the cell's folder under the results folder."""
        label = f"{self.config_hash}-{self.budget.name}-s{self.seed}"
        return "/".join((self.suite, self.network, self.method, label))

    @property
    def command(self) -> str:
        """What to type to run this cell again."""
        return (
            f"ratebench run {self.suite} --method {self.method} --network {self.network} "
            f"--config {self.config_hash} --budget {self.budget.name} --seed {self.seed}"
        )

    def ingredients(self) -> dict[str, str]:
        """Everything the result depends on, hashed one by one: what a stale checkpoint is compared with."""
        task_module = tasks.get(self.task)
        package = methods.source(self.method)
        own = frozenset([package] if package.is_file() else package.rglob("*.py"))
        architecture = tasks.load(self.task, self.network).architecture
        used = sources(package, *SCORING, f"benchmarks/tasks/{self.task}.py", f"benchmarks/networks/{architecture}.py")
        return {
            "the method's code": code_hash(own),
            "the suite's code": code_hash(used - own),
            "the configuration": json_hash(_identity(self.method, self.config)),
            "the data or the reference": json_hash(task_module.provenance(self.network)),
            "the budget": json_hash(asdict(self.budget)),
            "the seed": str(self.seed),
        }

    def fingerprint(self) -> str:
        return json_hash(self.ingredients())[:16]

    def make_config(self) -> Any:
        return _typed(self.method, self.config)

    def unsupported(self) -> str | None:
        """Why this cell can't be run, in a sentence; None if it can. Loads no data."""
        method = methods.get(self.method)
        if self.budget.name not in method.CARD.budgets:
            return f"has no {self.budget.name} recipe, only {', '.join(method.CARD.budgets)}"
        return method.unsupported(tasks.load(self.task, self.network), self.make_config())


def _identity(key: str, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without fields at their defaults that were added when there were records without them."""
    known = methods.get(key).Config
    late, default = {f.name for f in fields(known) if f.metadata.get("added")}, plain(known())
    return {name: value for name, value in config.items() if name not in late or value != default[name]}


def config_hash(key: str, config: dict[str, Any]) -> str:
    """What names a method's configuration among its others."""
    return json_hash(_identity(key, config))[:8]


def _typed(key: str, config: dict[str, Any]) -> Any:
    return msgspec.convert(config, methods.get(key).Config)


class _Spent(msgspec.Struct, forbid_unknown_fields=True):
    epochs: float | None


class _Params(msgspec.Struct):
    """What params.yaml holds besides suites."""

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
        msg = f"{PARAMS} is no valid YAML: {error}"
        raise RateBenchError(msg) from error


def names() -> list[str]:
    return [name for name in _params() if name not in ("budgets", "configs")]


def get(name: str) -> Suite:
    """The suite called `name`; raises UnknownName, or RateBenchError if params.yaml describes it wrongly."""
    if name not in names():
        raise UnknownName("suite", name, names())
    try:
        return msgspec.convert(_params()[name], Suite)
    except msgspec.ValidationError as error:
        msg = f"{PARAMS}, suite {name!r}: {error}"
        raise RateBenchError(msg) from error


def caution(name: str) -> str:
    """The suite's, or "" where params.yaml does not have it (any more)."""
    try:
        return get(name).caution
    except RateBenchError:
        return ""


def budget(name: str) -> Budget:
    known: dict[str, dict[str, float | None]] = _params()["budgets"]
    if name not in known:
        raise UnknownName("budget", name, known)
    epochs = known[name]["epochs"]
    return Budget(cast(BudgetName, name), None if epochs is None else float(epochs))


def configs(suite_name: str, key: str, budget_name: str) -> list[dict[str, Any]]:
    """The configurations of a method at a budget, complete (defaults filled in) and checked field by field."""
    method = methods.get(key)
    shared: Configs = _params()["configs"]
    own = get(suite_name).configs.get(budget_name, {})
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


def plain(config: Any) -> dict[str, Any]:
    """A configuration as a record holds it: what JSON makes of it."""
    return cast(dict[str, Any], msgspec.json.decode(msgspec.json.encode(config)))


def plan(
    suite_name: str,
    chosen_methods: Sequence[str] = (),
    chosen_networks: Sequence[str] = (),
    budget_name: str = "post-training",
    seeds: Sequence[int] = (),
) -> list[Cell]:
    """The cells of a suite, all or the chosen ones; a deterministic method has one seed unless training is random."""
    suite, spent = get(suite_name), budget(budget_name)
    keys = _choose("method", chosen_methods, [*suite.methods, *suite.baselines], methods.names())
    cells = []
    for network in _choose(f"network of suite {suite_name!r}", chosen_networks, suite.networks):
        for key in keys:
            for config in configs(suite_name, key, budget_name):
                random = spent.epochs != 0 or getattr(_typed(key, config), "random", False)
                used = list(seeds or suite.seeds)[: None if random else 1]
                cells += [Cell(suite_name, suite.task, network, key, config, spent, seed) for seed in used]
    return cells


def _choose(kind: str, chosen: Sequence[str], default: list[str], known: Iterable[str] | None = None) -> Sequence[str]:
    allowed = default if known is None else list(known)
    for name in chosen:
        if name not in allowed:
            raise UnknownName(kind, name, allowed)
    return chosen or default
