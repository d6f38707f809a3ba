"""What a result depends on, as a hash: code by its content, configuration, data, reference and seed.

Code counts by what it says: not comments, docstrings and formatting, not where a file lies or what it is called, not how
the project's files import each other. Left out, too, are files with `__fingerprint__ = False` at their top, which can
change no number, and the names `CARD` and `__all__`. What is looked up by name when a cell runs (its task, the
architecture) is named by the caller; what is imported (codecs, decoder modules, families) is followed.

Library versions are recorded beside it but are no part of it: a new torch must not throw away weeks of results.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__fingerprint__ = False  # names results, makes none

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ("benchmarks", "methods")
EQUIVALENTS = Path(__file__).with_name("equivalents.toml")  # written by `ratebench accept`
_UNCOUNTED = {"CARD", "__all__", "__fingerprint__"}  # names at the top of a file that change no result


def _module_file(name: str) -> Path | None:
    """The file of a module of this project, by its dotted name."""
    if name.partition(".")[0] not in PROJECT:
        return None
    place = ROOT.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@functools.cache
def _tree(path: Path) -> ast.Module:
    """The syntax tree of a file without what only a type checker reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return ast.Module([node for node in tree.body if not _for_type_checkers(node)], [])


def _for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _top_names(node: ast.stmt) -> set[str]:
    """Names that a statement at the top of a file assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _bindings(tree: ast.Module) -> Iterator[tuple[str, str | None, str]]:
    """(module, name in it or None, name here) of everything that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", alias.name, alias.asname or alias.name


def _shape(node: Any) -> Iterator[str]:
    """The syntax tree as text that comments, docstrings, imports, formatting and the Python version do not change.

    Nodes and lists are closed by a bracket: without it, a statement would hash the same inside and after a loop.
    """
    if isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for field, value in ast.iter_fields(node):
            if value not in (None, []) and field not in ("kind", "type_comment", "type_ignores"):
                yield f".{field}"
                yield from _shape(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            docstring = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
            if not docstring and not isinstance(item, ast.Import | ast.ImportFrom):
                yield from _shape(item)
        yield "]"
    else:
        yield repr(node)


@functools.cache
def content_hash(path: Path) -> str:
    """Hash of what a file says; "" for one that says nothing (imports and docstrings alone) or does not count.

    An import counts by what its names stand for where that can't be seen otherwise: those of other projects, and names
    of this one that are given another name.
    """
    tree = _tree(path)
    names = set().union(*map(_top_names, tree.body)) if tree.body else set()
    if "__fingerprint__" in names:
        return ""
    body = [node for node in tree.body if not _top_names(node) & _UNCOUNTED]
    if not any(True for node in body if not isinstance(node, ast.Import | ast.ImportFrom) and not _is_docstring(node)):
        return ""
    foreign = {
        (f"{module}.{name}" if name else module, here)
        for module, name, here in _bindings(tree)
        if module.partition(".")[0] not in (*PROJECT, "__future__", "typing", "collections")
    }
    renamed = {
        (name, here)
        for module, name, here in _bindings(tree)
        if module.partition(".")[0] in PROJECT and name and name != here
    }
    text = "\n".join([*_shape(body), *map(repr, sorted(foreign)), *map(repr, sorted(renamed))])
    return hashlib.sha256(text.encode()).hexdigest()


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@functools.cache
def _imports(path: Path) -> frozenset[Path]:
    """Files of this project whose names a file imports; a name that a package only hands on leads to where it is made."""
    found = {_source(module, name) for module, name, _ in _bindings(_tree(path))}
    return frozenset(file for file in found if file)


@functools.cache
def _source(module: str, name: str | None) -> Path | None:
    """The file that says what `name` of a module is."""
    file = _module_file(module)
    if file is None or name is None:
        return file
    if inner := _module_file(f"{module}.{name}"):
        return inner
    if file.name == "__init__.py":
        for origin, there, here in _bindings(_tree(file)):
            if here == name and there is not None and (found := _source(origin, there)):
                return found
    return file


def sources(*starts: str | Path | Iterable[Path]) -> frozenset[Path]:
    """The files named (modules of this project, or paths) and all that they import within it, as far as they count."""
    todo: list[Path] = []
    for start in starts:
        if isinstance(start, str):
            file = _module_file(start)
            todo += [file] if file else []
        else:
            todo += [start] if isinstance(start, Path) else start
    seen: set[Path] = set()
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            if not _left_out(file):
                todo += _imports(file)
    return frozenset(file for file in seen if content_hash(file))


def _left_out(file: Path) -> bool:
    return any("__fingerprint__" in _top_names(node) for node in _tree(file).body)


def contents(files: Iterable[Path]) -> frozenset[str]:
    """The contents of files, as hashes; where they lie and what they are called does not matter."""
    return frozenset(known for file in files if (known := content_hash(file)))


def code_hash(files: Iterable[Path]) -> str:
    """Hash of what files say, seen through the changes that were accepted as giving the same results."""
    return hashlib.sha256("\n".join(sorted(accepted(contents(files)))).encode()).hexdigest()


@functools.cache
def accepted(known: frozenset[str]) -> frozenset[str]:
    """The contents that gave the same results before the changes in equivalents.toml, the newest of which comes last."""
    for now, then in reversed(_equivalents()):
        if now <= known:
            known = known - now | then
    return known


@functools.cache
def _equivalents() -> list[tuple[frozenset[str], frozenset[str]]]:
    """(contents now, contents before) of each accepted change."""
    if not EQUIVALENTS.exists():
        return []
    rows = tomllib.loads(EQUIVALENTS.read_text(encoding="utf-8")).get("same", [])
    return [(frozenset(row["now"]), frozenset(row["then"])) for row in rows]


def forget() -> None:
    """Read all code anew: tests and `ratebench accept` change it under this process."""
    for function in (_tree, content_hash, _imports, _source, accepted, _equivalents):
        function.cache_clear()


def json_hash(value: Any) -> str:
    """Hash of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
