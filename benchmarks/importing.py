"""Imports modules that may fail in any way, so that only what needs them fails."""

from __future__ import annotations

import functools
import importlib
import os
import tempfile
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TypeVar

from benchmarks.errors import BrokenModule

__fingerprint__ = False  # the imported modules count
T = TypeVar("T")


def load(module: str, what: str) -> ModuleType:
    """Import a module by its dotted name; raises BrokenModule about `what`, e.g. "method 'x'", if that fails in any way.

    A driver, a shared library or a syntax error raises its own kind of error, and a module can call `sys.exit`.
    """
    return _safely(lambda: _with_cache(module), what, module)


def missing(module: ModuleType, names: Iterable[str], what: str) -> list[str]:
    """The names that a module lacks; raises BrokenModule if its `__getattr__` fails in any way."""
    return _safely(lambda: [name for name in names if not hasattr(module, name)], what, module.__name__)


def _safely(call: Callable[[], T], what: str, module: str) -> T:
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BrokenModule(what, module, error) from error


def _with_cache(module: str) -> ModuleType:
    """Import a module; where numba finds no folder for its cache that can be written to, it gets a temporary one."""
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        if not str(error).startswith("cannot cache function"):
            raise
    importlib.import_module("numba").config.CACHE_DIR = _scratch().name
    return importlib.import_module(module)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that this process removes when it ends; its child processes use it too."""
    folder = tempfile.TemporaryDirectory(prefix="ratebench-numba-")
    os.environ["NUMBA_CACHE_DIR"] = folder.name
    return folder
