"""Errors that a user can cause. Each message is one sentence: what, where and what to do.

The command line prints the message and exits with status 1; library code catches `RateBenchError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__fingerprint__ = False  # only error messages
_LONGEST = 400  # characters of a message that quotes a file


def first_line(error: BaseException) -> str:
    """The first line of a message, cut to a readable length and without control characters: a file may have written it."""
    first = next(iter(_text(error).splitlines()), "") or type(error).__name__
    plain = "".join(c if c.isprintable() else "?" for c in first)
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"


def in_short(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error)}" if _text(error) else type(error).__name__


def _text(error: BaseException) -> str:
    """The message of an error; empty if it can't say it."""
    try:
        return str(error).strip()
    except Exception:
        return ""


class RateBenchError(Exception):
    """Base of all errors with a message for the user."""


class BitstreamError(RateBenchError):
    """A compressed file is damaged, hostile or in another format, or can't be written as described."""


class TaskError(RateBenchError):
    """Data or a reference network is missing, damaged or has another hash."""


class DamagedFile(TaskError):
    """A file in the cache folder or of a cell in progress is not what the suite wrote there."""


class MethodError(RateBenchError):
    """A method can't run with its configuration."""


class BrokenModule(MethodError):
    """A method, task, network, codec or decoder module fails on import, so that only what needs it can't run."""

    def __init__(self, what: str, module: str, error: BaseException) -> None:
        super().__init__(f"{what} can't be imported: {in_short(error)} (`python -c 'import {module}'` shows where)")


class Diverged(MethodError):
    """The loss of a training stopped being finite."""


class RecordError(RateBenchError):
    """A record can't be read, or records do not fit together. Nothing is measured in its place: it may be fine."""


class DamagedRecord(RecordError):
    """A file is no record, or its values contradict each other: `run` measures that point again."""


class StaleCheckpoint(RateBenchError):
    """A checkpoint was saved with other code, data or settings than the current ones."""


class UnknownName(RateBenchError):
    """An unknown name, in the place `where`; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names)}"
        place = f"{where}: " if where else ""
        super().__init__(f"{place}unknown {kind} {name!r}: {hint}")
