"""Every error that a user can cause or meet: one sentence that says what, where and what to do.

The command line prints the sentence and exits with status 1; a library caller catches `RateBenchError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__fingerprint__ = False  # sentences alone


class RateBenchError(Exception):
    """Base of all errors that carry a sentence for the user."""


class BitstreamError(RateBenchError):
    """A compressed file is damaged, foreign, hostile, or can't be written as described."""


class TaskError(RateBenchError):
    """Data or a reference network is missing, damaged or not what its hash promises."""


class MethodError(RateBenchError):
    """A method can't do what its configuration asks."""


class RecordError(RateBenchError):
    """A record can't be read, or does not follow the schema."""


class StaleCheckpoint(RateBenchError):
    """A checkpoint was saved by other code, data or settings than those now in force."""


class UnknownName(RateBenchError):
    """A name that no registry knows; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}: {hint}")
