"""Downloads: pinned by hash, resumed after an interruption, and taken from a mirror first if one is set.

`RATEBENCH_MIRROR` is a folder or a URL that has the same file names as the official sources (archives may be
unpacked in a folder). With a complete folder, no network connection is needed. What a mirror can't give comes from the
official source, with a warning.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pooch
from filelock import FileLock

from benchmarks import storage
from benchmarks.data import transfer, unpacking
from benchmarks.errors import TaskError

__fingerprint__ = False  # fetched files are checked by hash
LARGEST = 1 << 30  # bytes of a file, and of what an archive unpacks to, unless a task says more
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: its official URL and hash ("md5:…", "sha256:…", or the first 8 digits of a sha256).

    Without a URL, the file must be in a mirror. `members` lists the needed files of an archive, with their own hashes.
    A download stops at `most` bytes.
    """

    name: str
    url: str
    known_hash: str
    members: Mapping[str, str] = field(default_factory=dict)
    most: int = LARGEST

    def targets(self) -> dict[str, str]:
        """The files that must be in the cache folder afterwards: name -> hash."""
        return dict(self.members) or {self.name: self.known_hash}


class _Unavailable(Exception):
    """A source can't give a file; the text is the reason."""


def matches(path: Path, known_hash: str) -> bool:
    """Whether the file exists and has this hash (of a shortened hash, only the given digits are compared)."""
    algorithm, _, digest = known_hash.partition(":")
    return path.is_file() and pooch.file_hash(str(path), alg=algorithm).startswith(digest.lower())


def fetch(file: RemoteFile) -> Path:
    """The verified file in the cache folder (for an archive: the folder of its members), fetched if needed.

    Raises TaskError if no source gives the file, a hash is wrong (the bad copy is removed), an archive is not safe to
    unpack, or the cache can't be written.
    """
    cache = storage.cache_folder()
    try:
        if not _complete(file, cache):
            with _alone(cache / f"{file.name}.lock"):
                if not _complete(file, cache):
                    _fetch(file, cache)
    except OSError as error:
        where = error.filename or cache
        msg = f"can't read or write {where}: {error.strerror or error}; correct that, or set RATEBENCH_CACHE to another folder"
        raise TaskError(msg) from error
    return cache / file.name if not file.members else cache


def _complete(file: RemoteFile, cache: Path) -> bool:
    return all(matches(cache / name, digest) for name, digest in file.targets().items())


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """If several processes need a file, one fetches it and the others wait."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        msg = f"can't write in {path.parent}: {error.strerror or error}; set RATEBENCH_CACHE to another folder"
        raise TaskError(msg) from error
    try:
        yield
    finally:
        lock.release()


def _fetch(file: RemoteFile, cache: Path) -> None:
    """Take the file from the mirror or, if that fails, from its official source."""
    mirror = os.environ.get("RATEBENCH_MIRROR", "").strip()
    without = "RATEBENCH_MIRROR is not set"
    if mirror:
        try:
            return _from_mirror(mirror, file, cache)
        except _Unavailable as reason:
            without = f"the mirror {reason}"
            if file.url:
                _log.warning("%s; trying the official source, %s", without, file.url)
    way_out = f"set RATEBENCH_MIRROR to a folder that holds {file.name}"
    if not file.url:
        msg = f"{file.name} has no public address and {without}: {way_out}"
        raise TaskError(msg)
    try:
        _download(file.url, file, cache)
    except _Unavailable as reason:
        msg = (
            f"can't download {file.name} from {reason} and {without}: try again with a network connection, or {way_out}"
        )
        raise TaskError(msg) from reason
    _unpack(file, cache)


def _from_mirror(mirror: str, file: RemoteFile, cache: Path) -> None:
    """Take the file from the mirror; raises _Unavailable with the reason if the mirror can't give it."""
    try:
        scheme = urlsplit(mirror).scheme.lower() if "://" in mirror else ""
    except ValueError as error:
        msg = f"RATEBENCH_MIRROR is {mirror!r}, which is no address ({error}): correct it or unset it"
        raise TaskError(msg) from error
    if scheme in ("http", "https"):
        _download(f"{mirror.rstrip('/')}/{file.name}", file, cache)
        return _unpack(file, cache)
    if scheme not in ("", "file"):
        msg = f"RATEBENCH_MIRROR is {mirror!r}: give a folder, or a URL that begins with https://, http:// or file://"
        raise TaskError(msg)
    folder = storage.expanded(url2pathname(urlsplit(mirror).path) if scheme else mirror, "RATEBENCH_MIRROR")
    if not folder.is_dir():
        msg = f"RATEBENCH_MIRROR is {mirror!r}, which is not a folder: correct it or unset it"
        raise TaskError(msg)
    unpacked = all((folder / name).is_file() for name in file.targets())
    for name, digest in file.targets().items() if unpacked else [(file.name, file.known_hash)]:
        _place(folder / name, cache / name, digest)
    if not unpacked:
        _unpack(file, cache)


def _place(source: Path, target: Path, digest: str) -> None:
    """Copy a file of the mirror to a `.part` file and check the hash before renaming it."""
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            msg = f"{source.parent} has {source.name}, but it is not a regular file"
            raise _Unavailable(msg)
        opened = source.open("rb")
    except FileNotFoundError:
        msg = f"{source.parent} does not have {source.name}"
        raise _Unavailable(msg) from None
    except OSError as error:
        msg = f"{source.parent} does not give {source.name} ({error.strerror or error})"
        raise _Unavailable(msg) from error
    with _part(target) as part, opened:
        with part.open("wb") as out:
            shutil.copyfileobj(opened, out)
        if not matches(part, digest):
            raise TaskError(_mismatch(part, digest, f"the mirror's {source}", "correct it or unset RATEBENCH_MIRROR"))


@contextlib.contextmanager
def _part(target: Path, keep: bool = False) -> Iterator[Path]:
    """The `.part` file beside a target, which it becomes at the end; it is removed after an error, unless `keep`."""
    if target.is_dir():
        msg = f"{target} is a folder, not a file: move it elsewhere, or set RATEBENCH_CACHE to another folder"
        raise TaskError(msg)
    part = target.with_name(f"{target.name}.part")
    if part.exists() and not part.is_file():
        msg = f"{part} is not a file: move it elsewhere, or set RATEBENCH_CACHE to another folder"
        raise TaskError(msg)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(target)
    finally:
        if not keep:
            part.unlink(missing_ok=True)


def _mismatch(path: Path, digest: str, what: str, advice: str) -> str:
    found = pooch.file_hash(str(path), alg=digest.partition(":")[0])
    return f"{what} has hash {found}, not {digest}: it is damaged or another file; {advice}"


def _download(url: str, file: RemoteFile, cache: Path) -> None:
    """Fetch over HTTP into `<name>.part`, continuing an earlier try, then check the hash.

    Raises _Unavailable with the reason.
    """
    with _part(cache / file.name, keep=True) as part:
        try:
            for begun in (part.exists(), False):
                encoding = transfer.get(url, part, file.most, file.name)
                if encoding in ("gzip", "x-gzip") and not matches(part, file.known_hash):
                    _gunzip(part, file.most)
                if part.exists() and matches(part, file.known_hash):
                    return
                wrong = _sent(part, file)
                part.unlink(missing_ok=True)
                if not begun:  # otherwise what was there did not belong to it, and the file is fetched whole
                    break
        except transfer.Failed as reason:
            msg = f"{url} ({reason})"
            raise _Unavailable(msg) from reason
        msg = f"{url} ({wrong})"
        raise _Unavailable(msg)


def _sent(part: Path, file: RemoteFile) -> str:
    """The sentence about a download with a wrong hash."""
    if not part.exists():
        return "it sent nothing"
    with part.open("rb") as data:
        start = data.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return f"the server sent a web page, perhaps a login or an error page, in place of {file.name}"
    return _mismatch(part, file.known_hash, f"the download of {file.name}", "it was removed")


def _gunzip(part: Path, most: int) -> None:
    """Decode a body that the server compressed for the transfer; leaves it as it is if that is not possible."""
    plain = part.with_name(f"{part.name}.plain")
    try:
        with gzip.open(part) as data, plain.open("wb") as out:
            while chunk := data.read(1 << 20):
                if out.tell() + len(chunk) > most:
                    return
                out.write(chunk)
        plain.replace(part)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return
    finally:
        plain.unlink(missing_ok=True)


def _unpack(file: RemoteFile, cache: Path) -> None:
    """Copy the needed members of a fetched archive into the cache, each checked by its own hash."""
    if not file.members:
        return
    archive = cache / file.name
    try:
        with unpacking.opened(archive, file.name) as tar:
            found = unpacking.members(tar, file.name, max(LARGEST, file.most), flat=False)
            if missing := [name for name in file.members if name not in found]:
                msg = f"{file.name} does not hold {', '.join(missing)}: it is not the archive that the task needs"
                raise TaskError(msg)
            for name, digest in file.members.items():
                with _part(cache / name) as part:
                    unpacking.copy(tar, found[name], part)
                    if not matches(part, digest):
                        raise TaskError(_mismatch(part, digest, f"{name} in {file.name}", "it was removed"))
    finally:
        archive.unlink(missing_ok=True)  # only its members are used
