"""Errors that a user can cause. Each message is one sentence: what, where and what to do.

The command line prints the message and exits with status 1; library code catches `RateBenchError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__fingerprint__ = False  # only error messages


class RateBenchError(Exception):
    """Base of all errors with a message for the user."""


class BitstreamError(RateBenchError):
    """A compressed file is damaged, hostile or in another format, or can't be written as described."""


class TaskError(RateBenchError):
    """Data or a reference network is missing, damaged or has another hash."""


class MethodError(RateBenchError):
    """A method can't run with its configuration."""


class RecordError(RateBenchError):
    """A record can't be read, or records do not fit together. Nothing is measured in its place: it may be fine."""


class DamagedRecord(RecordError):
    """A file is no record, or its values contradict each other: `run` measures that point again."""


class StaleCheckpoint(RateBenchError):
    """A checkpoint was saved with other code, data or settings than the current ones."""


class UnknownName(RateBenchError):
    """An unknown name; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}: {hint}")
