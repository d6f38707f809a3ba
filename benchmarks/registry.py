"""Modules of a package by name, so that adding one changes no other file."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

from benchmarks import importing
from benchmarks.errors import UnknownName

__fingerprint__ = False  # the modules found count, not this code


@functools.cache
def names(package: str) -> list[str]:
    """The modules directly in a package, sorted, without subpackages."""
    return sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__) if not m.ispkg)


def find(package: str, kind: str, name: str) -> ModuleType:
    """The module `name` of a package.

    Raises UnknownName ("unknown <kind> …") with the nearest names, and BrokenModule if the module fails on import.
    """
    if name not in names(package):
        raise UnknownName(kind, name, names(package))
    return importing.load(f"{package}.{name}", f"{kind} {name!r}")
