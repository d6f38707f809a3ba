"""The cells of a suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import methods
from benchmarks.errors import MethodError, UnknownName
from benchmarks.running import params
from benchmarks.running.cell import Cell, typed


def cells(
    suite_name: str,
    chosen_methods: Sequence[str] = (),
    chosen_networks: Sequence[str] = (),
    budget_name: str = "post-training",
    seeds: Sequence[int] = (),
) -> list[Cell]:
    """The cells of a suite, all or the chosen ones, each once.

    A deterministic method has one seed at budgets without training. Raises MethodError for a method that is broken.
    """
    suite = params.suite(suite_name)
    params.budget(budget_name)  # raises for another name, whatever is chosen
    keys = _choose("method", chosen_methods, suite.methods, methods.names())
    found = []
    for network in _choose(f"network of suite {suite_name!r}", chosen_networks, suite.networks):
        for key in keys:
            spent = params.budget(budget_name, suite.task, network, key)
            for config in params.configs(suite_name, key, budget_name):
                random = spent.epochs != 0 or getattr(typed(key, config), "random", False)
                used = list(dict.fromkeys(seeds or suite.seeds))[: None if random else 1]
                found += [Cell(suite_name, suite.task, network, key, config, spent, seed) for seed in used]
    return found


def usable(suite_name: str, chosen_methods: Sequence[str] = ()) -> tuple[list[str], dict[str, MethodError]]:
    """The methods of a suite, all or the chosen ones: (those that can be loaded, the others with the reason)."""
    found: list[str] = []
    broken = {}
    for key in _choose("method", chosen_methods, params.suite(suite_name).methods, methods.names()):
        try:
            params.defaults(key)
        except MethodError as error:
            broken[key] = error
        else:
            found.append(key)
    return found, broken


def _choose(kind: str, chosen: Sequence[str], default: list[str], known: Iterable[str] | None = None) -> Sequence[str]:
    allowed = default if known is None else list(known)
    for name in chosen:
        if name not in allowed:
            raise UnknownName(kind, name, allowed)
    return list(dict.fromkeys(chosen)) or default
