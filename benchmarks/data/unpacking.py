"""Tar archives without surprises: every member is checked first, and only bytes of regular files are read.

Nothing here calls `extract` or `extractall`, whose filters could be escaped in several releases of Python.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from benchmarks.errors import TaskError

__fingerprint__ = False  # archives are checked by hash
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.DIRTYPE: "a folder",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_LONGEST = 255  # bytes in a component of a name: the limit of common file systems
# What reading a damaged or hostile archive can raise, beside an OSError with a number, which is the disk's.
_DAMAGE = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    ValueError,
    OverflowError,
    RecursionError,
    MemoryError,
)


@contextlib.contextmanager
def opened(archive: Path | IO[bytes], what: str | Path) -> Iterator[tarfile.TarFile]:
    """A context with an archive, compressed or not; raises TaskError with the name `what` if it is damaged."""
    try:
        with tarfile.open(archive) if isinstance(archive, Path) else tarfile.open(fileobj=archive) as tar:
            yield tar
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        msg = f"{what} is damaged ({reason}): fetch it again"
        raise TaskError(msg) from error


def members(tar: tarfile.TarFile, what: str | Path, limit: int, flat: bool = True) -> dict[str, tarfile.TarInfo]:
    """The regular files of an archive by name; reads all headers, writes nothing.

    `limit` is the largest sum of their sizes in bytes. In a `flat` archive folders are refused as well. Raises TaskError
    for any other kind of member, for names that could leave a folder or meet another name, and for sizes above the limit.
    """
    found: dict[str, tarfile.TarInfo] = {}
    known: set[str] = set()
    total = 0
    for member in tar:
        folder = member.type == tarfile.DIRTYPE
        fault = _bad_name(member.name) or _bad_kind(member, flat)
        if fault is None and flat and "/" in member.name:
            fault = "is in a folder"
        if fault is None and member.name.casefold() in known:
            fault = "occurs twice, or differs from another name only in case"
        total += member.size
        if fault is None and not 0 <= member.size <= total <= limit:
            fault = f"promises {member.size:,} bytes, more than the archive can hold"
        if fault is not None:
            name = repr(member.name if len(member.name) <= 80 else f"{member.name[:77]}…")
            msg = f"{what} is not safe to unpack: its member {name} {fault}; nothing of it was unpacked"
            raise TaskError(msg)
        known.add(member.name.casefold())
        if not folder:
            found[member.name] = member
    return found


def _bad_kind(member: tarfile.TarInfo, flat: bool) -> str | None:
    if member.type == tarfile.DIRTYPE and not flat:
        return None
    sparse = getattr(member, "sparse", None) is not None
    if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not sparse:
        return None
    return f"is {'a sparse file' if sparse else _KINDS.get(member.type, 'of an unknown kind')}, not a regular file"


def _bad_name(name: str) -> str | None:
    parts = name.split("/")
    if not name:
        return "has an empty name"
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "has an absolute path"
    if any(part in ("", ".", "..") for part in parts):
        return "has a path that can leave its folder"
    if "\\" in name or not name.isprintable():
        return "has a backslash or a control character in its name"
    if any(len(os.fsencode(part)) > _LONGEST for part in parts):
        return f"has a name of more than {_LONGEST} bytes"
    return None


def copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write the bytes of a member that `members` returned; raises TarError if the archive has fewer than promised."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    with source, target.open("wb") as out:
        shutil.copyfileobj(source, out)
    if target.stat().st_size != member.size:
        msg = f"{member.name} is cut short"
        raise tarfile.ReadError(msg)
