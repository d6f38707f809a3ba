"""Small pictures of what a suite's files hold, for the report: one file for each suite of image coding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchmarks import storage
from benchmarks.errors import RecordError
from benchmarks.records import regular
from benchmarks.records.schema import Amount, Name, Positive, Sha256

NAME = "pictures.json"  # in the folder of a suite
LIMIT = 64 * 2**20  # bytes of the file


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Pictures(_Strict, frozen=True):
    """WebP files of `width` pixels: of originals by network, and of artefacts by their SHA-256.

    Each artefact is the one of its method whose ratio is closest to `ratio`.
    """

    suite: Name
    ratio: Amount
    width: Positive
    originals: Mapping[Name, bytes]
    artefacts: Mapping[Sha256, bytes]


def write(results: Path, pictures: Pictures) -> Path:
    """Store the pictures of a suite atomically, instead of earlier ones; return the path."""
    path = results / pictures.suite / NAME
    storage.write(path, msgspec.json.format(msgspec.json.encode(pictures), indent=1) + b"\n")
    return path


def load(results: Path, suite: str) -> Pictures | None:
    """The pictures of a suite, None if none were drawn; raises RecordError for a damaged file."""
    path = results / suite / NAME
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(regular.read(path, LIMIT), type=Pictures)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"{path} holds no pictures ({error}): restore it, or let `ratebench draw` write it again"
        raise RecordError(msg) from error
