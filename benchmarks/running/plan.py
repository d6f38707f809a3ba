"""The cells of a suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import methods
from benchmarks.errors import UnknownName
from benchmarks.running import params
from benchmarks.running.cell import Cell, typed


def cells(
    suite_name: str,
    chosen_methods: Sequence[str] = (),
    chosen_networks: Sequence[str] = (),
    budget_name: str = "post-training",
    seeds: Sequence[int] = (),
) -> list[Cell]:
    """The cells of a suite, all or the chosen ones; a deterministic method has one seed at budgets without training."""
    suite, spent = params.suite(suite_name), params.budget(budget_name)
    keys = _choose("method", chosen_methods, suite.methods, methods.names())
    found = []
    for network in _choose(f"network of suite {suite_name!r}", chosen_networks, suite.networks):
        for key in keys:
            for config in params.configs(suite_name, key, budget_name):
                random = spent.epochs != 0 or getattr(typed(key, config), "random", False)
                used = list(seeds or suite.seeds)[: None if random else 1]
                found += [Cell(suite_name, suite.task, network, key, config, spent, seed) for seed in used]
    return found


def _choose(kind: str, chosen: Sequence[str], default: list[str], known: Iterable[str] | None = None) -> Sequence[str]:
    allowed = default if known is None else list(known)
    for name in chosen:
        if name not in allowed:
            raise UnknownName(kind, name, allowed)
    return chosen or default
