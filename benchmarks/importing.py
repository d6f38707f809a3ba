"""Imports modules that may fail in any way, so that only what needs them fails."""

from __future__ import annotations

import functools
import importlib
import os
import tempfile
from types import ModuleType

from benchmarks.errors import BrokenModule

__fingerprint__ = False  # the imported modules count


def load(module: str, what: str) -> ModuleType:
    """Import a module by its dotted name; raises BrokenModule about `what`, e.g. "method 'x'", if that fails in any way.

    A driver, a shared library or a syntax error raises its own kind of error, and a module can call `sys.exit`.
    """
    try:
        return _with_cache(module)
    except (Exception, SystemExit) as error:
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
