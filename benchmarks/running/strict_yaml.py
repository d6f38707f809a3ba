"""YAML in which nothing is lost without a word: keys are unique text, numbers are finite, and aliases stay small."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import RateBenchError

MOST_VALUES = 100_000  # after aliases are replaced by what they stand for
_MERGE = "tag:yaml.org,2002:merge"
_ALLOWED = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
# Numbers with an exponent but no point are text in YAML 1.1; 010, 1:30 and 1_0 are the numbers 8, 90 and 10.
_AMBIGUOUS = re.compile(
    r"[-+]?(\d+[eE][-+]?\d+|\d+\.\d*[eE]\d+|0\d+|0[bx][0-9a-fA-F_]+|\d[\d_]*_[\d_]*|\d+(:\d+)+(\.\d*)?)"
)
_SAVE = "save it as UTF-8 text"


def read(path: Path) -> Any:
    """The content of a YAML file: mappings with text as keys, lists, text, finite numbers, booleans and None.

    A byte order mark is skipped. Raises RateBenchError, with the line where there is one, for a file that can't be read or is
    not UTF-8, for wrong syntax, keys that occur twice in a mapping, other kinds of value, aliases that contain themselves, and
    aliases that together stand for more than MOST_VALUES values. FileNotFoundError is left to the caller.
    """
    text = _text(path)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _Checked(path).size(root, ())
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise _wrong(path, error.problem_mark or error.context_mark, _problem(error)) from error
    except yaml.YAMLError as error:  # a control character
        raise _wrong(path, None, f"{str(error).splitlines()[0]}: {_SAVE}") from error
    except RecursionError as error:
        raise _wrong(path, None, "it is nested too deeply") from error
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:  # what PyYAML raises for tags such as `!!int two`
        raise _wrong(path, None, "a value is not what its tag (!!…) or escape says: write it as plain text") from error


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise RateBenchError(msg) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        msg = f"{path}, line {line}, is not UTF-8 text: {_SAVE}"
        raise RateBenchError(msg) from error
    if "\0" in text:
        msg = f"{path} is not UTF-8 text: {_SAVE}"
        raise RateBenchError(msg)
    return text


def _wrong(path: Path, mark: yaml.Mark | None, problem: str) -> RateBenchError:
    where = "" if mark is None else f", line {mark.line + 1}"
    return RateBenchError(f"{path}{where}, is not valid: {problem}")


def _problem(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's explanation on one line."""
    said = " ".join(filter(None, (error.context, error.problem)))
    return f"{said} (indent with spaces)" if "'\\t'" in said else said


class _Checked:
    """Checks the nodes of a document, each once however many aliases it has."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: dict[int, int] = {}

    def size(self, node: yaml.Node, above: tuple[yaml.Node, ...]) -> int:
        """The number of values that a node stands for; raises RateBenchError. `above` are the nodes that contain it."""
        if any(node is outer for outer in above):
            raise _wrong(self._path, node.start_mark, "an alias contains itself")
        if id(node) not in self._sizes:
            if node.tag not in _ALLOWED:
                kind = node.tag.rpartition(":")[2]
                raise _wrong(self._path, node.start_mark, f"a value of the kind {kind!r}: put text in quotes")
            if isinstance(node, yaml.MappingNode):
                self._check_keys(node)
            elif isinstance(node, yaml.ScalarNode):
                self._check_scalar(node)
            self._sizes[id(node)] = 1 + sum(self.size(child, (*above, node)) for child in _children(node))
            if self._sizes[id(node)] > MOST_VALUES:
                raise _wrong(self._path, node.start_mark, f"its aliases stand for more than {MOST_VALUES:,} values")
        return self._sizes[id(node)]

    def _check_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (_MERGE, "tag:yaml.org,2002:str"):
                said = repr(key.value) if isinstance(key, yaml.ScalarNode) else "this one"
                raise _wrong(self._path, key.start_mark, f"a key must be text, not {said}: put it in quotes")
            line = key.start_mark.line + 1
            if key.value in lines:
                both = f"lines {lines[key.value]} and {line}" if line != lines[key.value] else f"line {line}"
                hint = "write `<<: [*one, *two]`" if key.tag == _MERGE else "remove or rename one of them"
                msg = f"{self._path} has the key {key.value!r} twice in one mapping ({both}): {hint}"
                raise RateBenchError(msg)
            lines[key.value] = line

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        node.value.encode()  # raises ValueError for half of a surrogate pair
        if node.style is None and _AMBIGUOUS.fullmatch(node.value):
            advice = "write it with a decimal point, as 1.0e-9, or in quotes if it is text"
            if node.tag.endswith((":int", ":float")):
                advice = f"YAML reads it as {yaml.SafeLoader('').construct_object(node)}: write that as a plain decimal"
            raise _wrong(self._path, node.start_mark, f"{node.value!r} is ambiguous: {advice}")
        if node.tag.endswith(":float") and not math.isfinite(yaml.SafeLoader("").construct_yaml_float(node)):
            raise _wrong(self._path, node.start_mark, f"{node.value!r} is not a finite number")


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (value for _, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
