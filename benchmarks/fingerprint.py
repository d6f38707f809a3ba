"""What a result depends on, as a hash: code (not its comments), configuration, data, reference and seed.

Library versions are recorded beside it but are no part of it: a new torch must not throw away weeks of results.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENTS = Path(__file__).with_name("equivalents.toml")
# Reached by imports, but unable to change a number: where files lie, how they are fetched, named and reported.
_HARMLESS = {
    ROOT / name
    for name in (
        "benchmarks/discovery.py",
        "benchmarks/errors.py",
        "benchmarks/fetching.py",
        "benchmarks/fingerprint.py",
        "benchmarks/storage.py",
        "benchmarks/vision.py",
        "methods/__init__.py",
    )
}


def _shape(node: Any) -> Iterator[str]:
    """The syntax tree as text that comments, docstrings, formatting and the Python version do not change.

    Nodes and lists are closed by a bracket: without it, a statement would hash the same inside and after a loop.
    """
    if isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for field, value in ast.iter_fields(node):
            if value not in (None, []) and field not in ("kind", "type_comment"):
                yield f".{field}"
                yield from _shape(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)):  # a docstring
                yield from _shape(item)
        yield "]"
    else:
        yield repr(node)


def _syntax_hash(path: Path) -> str:
    shape = "\n".join(_shape(ast.parse(path.read_text(encoding="utf-8"))))
    return hashlib.sha256(shape.encode()).hexdigest()


@functools.cache
def _file_hash(path: Path) -> str:
    found = _syntax_hash(path)
    return _equivalents().get(found, found)


@functools.cache
def _equivalents() -> dict[str, str]:
    """Hash of a file now -> hash of the version that it gives the same results as (`equivalents.toml` says why).

    "" stands for no file at all: what is new serves a case that no record has, or changes no result.
    """
    if not EQUIVALENTS.exists():
        return {}
    rows = tomllib.loads(EQUIVALENTS.read_text(encoding="utf-8")).get("same", [])
    return {row["now"]: row["then"] for row in rows}


def _module_file(name: str) -> Path | None:
    """The file of a module of this project, by its dotted name."""
    for file in (ROOT.joinpath(*name.split(".")).with_suffix(".py"), ROOT.joinpath(*name.split("."), "__init__.py")):
        if file.is_file():
            return file
    return None


@functools.cache
def _imports(path: Path) -> frozenset[Path]:
    """Files of this project that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_module_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(_module_file(node.module))
            found |= {_module_file(f"{node.module}.{alias.name}") for alias in node.names}
    return frozenset(file for file in found if file)


def sources(*places: str | Path) -> frozenset[Path]:
    """The Python files in files or folders (relative to the root) and all that they import within this project.

    What is looked up by name at run time (a codec, a network, a task) is no import: its user names it as a place.
    """
    tops = [ROOT / place for place in places]
    todo = [file for top in tops for file in ([top] if top.is_file() else sorted(top.rglob("*.py")))]
    seen: set[Path] = set()
    while todo:
        file = todo.pop()
        if file not in seen and file not in _HARMLESS:
            seen.add(file)
            todo += _imports(file)
    return frozenset(seen)


def code_hash(files: Iterable[Path]) -> str:
    """Hash of the code in files: their syntax, and their names within the project (or alone, outside of it).

    A file that is declared equivalent to nothing does not count.
    """
    names = {file: file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name for file in files}
    ordered = sorted(names.items(), key=lambda item: item[1])
    lines = (f"{name} {known}" for file, name in ordered if (known := _file_hash(file)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def json_hash(value: Any) -> str:
    """Hash of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


if __name__ == "__main__":  # python -m benchmarks.fingerprint FILE …: what equivalents.toml is filled from
    for name in sys.argv[1:]:
        print(_syntax_hash(Path(name)), name)
