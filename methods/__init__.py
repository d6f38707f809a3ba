"""The compared methods: one package per paper, one module per baseline, found by name."""

from __future__ import annotations

import functools
import importlib.metadata
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import cast

from benchmarks import importing
from benchmarks.errors import MethodError, UnknownName
from methods.interface import Card, Method

__fingerprint__ = False  # finds methods by name; their own files count
ENTRY_POINTS = "ratebench.methods"
_NOT_METHODS = {"interface", "families", "baselines"}


@functools.cache
def _locations() -> dict[str, str]:
    """Method key -> module path: this package, its baselines, then third-party packages by entry point."""
    here = Path(__file__).parent
    found = {m.name: f"methods.{m.name}" for m in pkgutil.iter_modules([str(here)]) if m.name not in _NOT_METHODS}
    found |= {m.name: f"methods.baselines.{m.name}" for m in pkgutil.iter_modules([str(here / "baselines")])}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        found.setdefault(entry.name, entry.value)
    return dict(sorted(found.items()))


def names() -> list[str]:
    """Keys of all installed methods, sorted."""
    return list(_locations())


def get(key: str) -> Method:
    """The method called `key`; raises UnknownName with the nearest keys, MethodError if it is broken in any way."""
    if key not in _locations():
        raise UnknownName("method", key, _locations())
    module = importing.load(_locations()[key], f"method {key!r}")
    needed = ("CARD", "Config", "unsupported", "compress")
    missing = importing.missing(module, needed, f"method {key!r}")
    if "Config" not in missing and not hasattr(module.Config, "operating_points"):
        missing.append("Config.operating_points")
    if "CARD" not in missing and not isinstance(module.CARD, Card):
        missing.append("a Card as CARD")
    if missing:
        msg = f"method {key!r} ({module.__name__}) lacks {', '.join(missing)}: see methods/interface.py"
        raise MethodError(msg)
    return cast(Method, module)


def source(key: str) -> Path:
    """The folder of a method's package, or the file of a single-module method; its fingerprint covers this code."""
    module = cast(ModuleType, get(key))
    file = Path(cast(str, module.__file__))
    return file.parent if file.name == "__init__.py" else file
