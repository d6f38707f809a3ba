"""Checks of what a file of settings holds; each says in one sentence what is wrong, and where.

`where` is the place in the file. A wrong name raises UnknownName, anything else RateBenchError.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from benchmarks.errors import RateBenchError, UnknownName


def struct(value: Any, kind: type[Any], where: str) -> Any:
    """`converted` for a struct, with a hint for an unknown field."""
    if isinstance(value, dict):
        known("field", value, kind.__struct_fields__, where)
    return converted(value, kind, where)


def converted(value: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        msg = f"{where}: {error}"
        raise RateBenchError(msg) from error


def known(kind: str, given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise UnknownName for a name that is not known."""
    allowed = list(known)
    for name in given:
        if name not in allowed:
            raise UnknownName(kind, name, allowed, where)


def filled(values: typing.Sized, where: str) -> None:
    if not len(values):
        msg = f"{where}: it is empty, so that nothing would run: name at least one"
        raise RateBenchError(msg)


def unique(values: Sequence[Any], where: str) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            msg = f"{where}: {value!r} is there twice: remove one"
            raise RateBenchError(msg)
