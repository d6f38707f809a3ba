"""Downloads: pinned by hash, resumed after an interruption, and taken from a mirror first if one is set.

`RATEBENCH_MIRROR` is a folder or a URL that has the same file names as the official sources (archives may be
unpacked there). With a complete folder, no network connection is needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pooch
import requests
from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from benchmarks import storage
from benchmarks.errors import TaskError

__fingerprint__ = False  # fetched files are checked by hash
_CHUNK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: its official URL and hash ("md5:…", "sha256:…", or the first 8 digits of a sha256).

    Without a URL, the file must be in a mirror. `members` lists the needed files of an archive, with their own hashes.
    """

    name: str
    url: str
    known_hash: str
    members: Mapping[str, str] = field(default_factory=dict)

    def targets(self) -> dict[str, str]:
        """The files that must be in the cache folder afterwards: name -> hash."""
        return dict(self.members) or {self.name: self.known_hash}


def matches(path: Path, known_hash: str) -> bool:
    """Whether the file exists and has this hash (of a shortened hash, only the given digits are compared)."""
    algorithm, _, digest = known_hash.partition(":")
    return path.is_file() and pooch.file_hash(str(path), alg=algorithm).startswith(digest.lower())


def fetch(file: RemoteFile) -> Path:
    """The verified file in the cache folder (for an archive: the folder of its members), fetched if needed.

    Raises TaskError if no source is reachable, a hash is wrong (the bad file is removed) or an archive is damaged.
    """
    cache = storage.cache_folder()
    if not _complete(file, cache):
        with _alone(cache / f"{file.name}.lock"):
            mirror = os.environ.get("RATEBENCH_MIRROR", "")
            if not _complete(file, cache) and not (mirror and _from_mirror(mirror, file, cache)):
                if not file.url:
                    raise TaskError(_unavailable(file, mirror))
                _download(file.url, file, cache, mirror)
                _unpack(file, cache)
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


def _from_mirror(mirror: str, file: RemoteFile, cache: Path) -> bool:
    """Take the file from the mirror; False if the mirror does not have it."""
    if mirror.startswith(("http://", "https://")):
        url = f"{mirror.rstrip('/')}/{file.name}"
        try:
            _download(url, file, cache, mirror)
        except _Missing:
            return False
        _unpack(file, cache)
        return True
    folder = Path(mirror).expanduser()
    if not folder.is_dir():
        msg = f"RATEBENCH_MIRROR is {mirror!r}, which is not a folder: correct it or unset it"
        raise TaskError(msg)
    unpacked = all((folder / name).is_file() for name in file.targets())
    for name, digest in file.targets().items() if unpacked else [(file.name, file.known_hash)]:
        if not (folder / name).is_file():
            return False
        _place(folder / name, cache / name, digest, f"the mirror's {folder / name}")
    if not unpacked:
        _unpack(file, cache)
    return True


def _place(source: Path, target: Path, digest: str, what: str) -> None:
    """Copy to a `.part` file and check the hash before renaming it."""
    part = target.with_name(target.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
    except OSError as error:
        part.unlink(missing_ok=True)
        msg = f"can't copy {what} to {target}: {error.strerror or error}"
        raise TaskError(msg) from error
    _accept(part, target, digest, what)


def _accept(part: Path, target: Path, digest: str, what: str) -> None:
    if not matches(part, digest):
        found = pooch.file_hash(str(part), alg=digest.partition(":")[0])
        part.unlink()
        msg = f"{what} has hash {found}, not {digest}: it is damaged or another file; it was removed, fetch it again"
        raise TaskError(msg)
    part.replace(target)


class _Missing(TaskError):
    """The server answers but does not have the file."""


def _download(url: str, file: RemoteFile, cache: Path, mirror: str) -> None:
    """Fetch over HTTP into `<name>.part`, resuming an earlier try, then check the hash."""
    part = cache / f"{file.name}.part"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        done = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
            if answer.status_code == requests.codes.not_found:
                raise _Missing(_unavailable(file, mirror, url, "it is not there"))
            if answer.status_code != requests.codes.requested_range_not_satisfiable:  # 416: the whole file is here
                answer.raise_for_status()
                resumed = answer.status_code == requests.codes.partial_content
                _stream(answer, part, done if resumed else 0, file.name)
    except requests.RequestException as error:
        raise TaskError(_unavailable(file, mirror, url, type(error).__name__)) from error
    except OSError as error:
        msg = f"can't write {part}: {error.strerror or error}"
        raise TaskError(msg) from error
    _accept(part, cache / file.name, file.known_hash, f"the download of {file.name}")


def _unavailable(file: RemoteFile, mirror: str, url: str = "", why: str = "") -> str:
    where = f"RATEBENCH_MIRROR ({mirror}) does not have it" if mirror else "RATEBENCH_MIRROR is not set"
    if not url:
        return f"{file.name} has no public address and {where}: set RATEBENCH_MIRROR to a folder that holds {file.name}"
    return (
        f"can't download {file.name} from {url} ({why}) and {where}: connect to the network, or set "
        f"RATEBENCH_MIRROR to a folder that holds {file.name}"
    )


def _stream(answer: requests.Response, part: Path, done: int, name: str) -> None:
    total = done + int(answer.headers.get("content-length", 0)) or None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns) as progress, part.open("ab" if done else "wb") as out:
        bar = progress.add_task(name, total=total, completed=done)
        for chunk in answer.iter_content(_CHUNK):
            out.write(chunk)
            progress.advance(bar, len(chunk))


def _unpack(file: RemoteFile, cache: Path) -> None:
    """Extract the needed members of a fetched archive, each checked by its own hash."""
    if not file.members:
        return
    archive = cache / file.name
    try:
        with tarfile.open(archive) as tar:
            for name, digest in file.members.items():
                part = cache / f"{name}.part"
                part.parent.mkdir(parents=True, exist_ok=True)
                member = tar.extractfile(name)
                if member is None:
                    raise KeyError(name)
                with member, part.open("wb") as out:
                    shutil.copyfileobj(member, out)
                _accept(part, cache / name, digest, f"{name} in {file.name}")
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        msg = f"can't unpack {archive}: {error}; delete it and fetch it again"
        raise TaskError(msg) from error
    archive.unlink()  # only its members are used
