"""Hashes of everything that a result depends on: the content of code, configuration, data, reference and seed.

The following do not count: comments, docstrings, formatting, names and folders of files, imports between the project's
files, the names `CARD` and `__all__`, and files that assign `__fingerprint__ = False`, which cannot change a number. The caller
names the files that are looked up by name when a cell runs (task, architecture); imported files (codecs, decoder modules,
families) are found by following imports. A hash covers the set of contents: names that a cell imports from the project have
to be unique within its code, because their origin does not count.

Library versions are recorded but are not part of the hash: a new torch must not invalidate weeks of results.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import equivalents

__fingerprint__ = False  # identifies results, computes none

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ("benchmarks", "methods")
_BUILT_IN = ("__future__", "collections", "typing")  # types, or names that are unambiguous without the import
_UNCOUNTED = {"CARD", "__all__"}  # module-level names that change no result
_EXEMPT = "__fingerprint__"
_BUILDERS = {"build", "skeleton", "Compressed"}  # functions whose first argument is the name of an architecture


@dataclass(frozen=True)
class Source:
    """One file: the hash of its content ("" if nothing in it counts), its imports, and the architectures that it names."""

    content: str
    imports: tuple[tuple[str, str | None, str], ...]  # (module, name in the module or None, local name)
    exempt: bool
    architectures: frozenset[str] = frozenset()


@functools.lru_cache(maxsize=4096)
def parsed(text: str) -> Source:
    """Parse the text of a file.

    Imports count where they change the meaning of names: imports from other projects, and imports from this project under
    another name.
    """
    tree = ast.parse(text)
    body = [node for node in tree.body if not _for_type_checkers(node)]
    imports = tuple(_imports(body))
    exempt = any(_EXEMPT in _assigned(node) for node in body)
    counted = [node for node in body if not _is_docstring(node) and not _is_uncounted(node)]
    if exempt or all(isinstance(node, ast.Import | ast.ImportFrom) for node in counted):
        return Source("", imports, exempt)
    constants = {name: node.value for node in counted for name in _assigned(node) if hasattr(node, "value")}
    calls = (node for part in counted for node in ast.walk(part) if isinstance(node, ast.Call))
    architectures = frozenset(name for call in calls for name in _architectures(call, constants))
    foreign = {
        (f"{module}.{name}" if name else module, here)
        for module, name, here in imports
        if module.partition(".")[0] not in (*PROJECT, *_BUILT_IN)
    }
    renamed = {
        (name, here)
        for module, name, here in imports
        if module.partition(".")[0] in PROJECT and name is not None and name != here
    }
    said = "\n".join([*_shape(counted), *map(repr, sorted(foreign)), *map(repr, sorted(renamed))])
    return Source(hashlib.sha256(said.encode()).hexdigest(), imports, exempt, architectures)


def _architectures(call: ast.Call, constants: Mapping[str, ast.expr | None]) -> Iterator[str]:
    """The architecture that a call names, as in `networks.build("resnet", …)` or `Compressed(NAME, …)`.

    `constants` are the values of module-level names.
    """
    function = call.func
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    named = [keyword.value for keyword in call.keywords if keyword.arg == "architecture"]
    for value in [*(call.args[:1] if name in _BUILDERS else []), *named]:
        known = constants.get(value.id) if isinstance(value, ast.Name) else value
        if isinstance(known, ast.Constant) and isinstance(known.value, str):
            yield known.value


def _for_type_checkers(node: ast.stmt) -> bool:
    test = node.test if isinstance(node, ast.If) and not node.orelse else None
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_uncounted(node: ast.stmt) -> bool:
    """Whether a statement assigns names, and only names in `_UNCOUNTED`."""
    assigned = _assigned(node)
    return bool(assigned) and assigned <= _UNCOUNTED


def _assigned(node: ast.stmt) -> set[str]:
    """Names that a module-level statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _imports(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str | None, str]]:
    """All imports in the statements, at any depth."""
    for node in (inner for statement in body for inner in ast.walk(statement)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", alias.name, alias.asname or alias.name


def _shape(node: Any) -> Iterator[str]:
    """The syntax tree as text, independent of comments, docstrings, imports, formatting and the Python version.

    Nodes and lists need closing brackets: otherwise a statement inside a loop and one after it would give the same text.
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
            if not _is_docstring(item) and not isinstance(item, ast.Import | ast.ImportFrom):
                yield from _shape(item)
        yield "]"
    else:
        yield repr(node)


class Code:
    """The project's code below a folder: the files of modules, and their dependencies."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sources: dict[Path, Source] = {}
        self._imported: dict[Path, frozenset[Path]] = {}

    def source(self, file: Path) -> Source:
        if file not in self._sources:
            self._sources[file] = parsed(file.read_text(encoding="utf-8"))
        return self._sources[file]

    def module(self, name: str) -> Path | None:
        """The file of a module of this project, by its dotted name; None for other modules."""
        if name.partition(".")[0] not in PROJECT:
            return None
        place = self.root.joinpath(*name.split("."))
        return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)

    def _origin(self, module: str, name: str | None, asked: frozenset[str] = frozenset()) -> Path | None:
        """The file that defines `name` of a module, not a package that only re-exports it.

        `asked` are the packages already followed, since packages may re-export names of each other.
        """
        file = self.module(module)
        if file is None or name is None:
            return file
        if inner := self.module(f"{module}.{name}"):
            return inner
        if file.name == "__init__.py" and module not in asked:
            for origin, there, here in self.source(file).imports:
                if here == name and there is not None and (found := self._origin(origin, there, asked | {module})):
                    return found
        return file

    def imported(self, file: Path) -> frozenset[Path]:
        """Files of this project whose names a file imports."""
        if file not in self._imported:
            found = {self._origin(module, name) for module, name, _ in self.source(file).imports}
            self._imported[file] = frozenset(place for place in found if place)
        return self._imported[file]

    def sources(self, *starts: str | Path) -> frozenset[Path]:
        """Of `starts` (modules, files or folders) and all files that they import, directly or indirectly: those that count."""
        todo: list[Path] = []
        for start in starts:
            place = self.module(start) if isinstance(start, str) else start
            if place is not None:
                todo += sorted(place.rglob("*.py")) if place.is_dir() else [place]
        seen: set[Path] = set()
        while todo:
            file = todo.pop()
            if file not in seen:
                seen.add(file)
                todo += [] if self.source(file).exempt else self.imported(file)
        return frozenset(file for file in seen if self.source(file).content)

    def architectures(self, files: Iterable[Path]) -> frozenset[str]:
        """The architectures that files name."""
        return frozenset().union(*(self.source(file).architectures for file in files))

    def contents(self, files: Iterable[Path]) -> frozenset[str]:
        """Hashes of the contents of files."""
        return frozenset(content for file in files if (content := self.source(file).content))


@functools.cache
def here() -> Code:
    """The code of this checkout, read once per process."""
    return Code(ROOT)


def sources(*starts: str | Path) -> frozenset[Path]:
    """`Code.sources` of this checkout."""
    return here().sources(*starts)


def code_hash(files: Iterable[Path]) -> str:
    """Hash of the contents of files; accepted changes (equivalents.py) do not change it."""
    known = equivalents.before(here().contents(files))
    return hashlib.sha256("\n".join(sorted(known)).encode()).hexdigest()


def forget() -> None:
    """Clear all caches, for tests that change the code during a process."""
    here.cache_clear()
    equivalents.rows.cache_clear()


def json_hash(value: Any) -> str:
    """Hash of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
