"""The cache folder, reading of files, and atomic writing."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pooch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from benchmarks.errors import DamagedFile, RateBenchError, TaskError, first_line

__fingerprint__ = False  # location of files, not their content
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}")  # a file that `write` has begun: ".name.", then random letters
_SEAL, _DIGITS = b"\nsha256:", 64  # comes last, because torch's reader ignores bytes after a file's end
_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, SafetensorError)


class StorageError(RateBenchError):
    """A file can't be written, for example for lack of space or permission."""


def cache_folder() -> Path:
    """The folder of downloads and trained references: `RATEBENCH_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("RATEBENCH_CACHE") or pooch.os_cache("ratebench"))


def expanded(text: str, setting: str) -> Path:
    """A path in which `~` stands for a home folder; raises TaskError about the setting if there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        msg = f"{setting} is {text!r}, but there is no such home folder: correct it or unset it"
        raise TaskError(msg) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write(path: Path, data: bytes) -> None:
    """Write a file atomically: readers see the old content or the new, even after a kill or on a full disk.

    Raises StorageError with the reason; no temporary file is left then.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # temporary files are private by default, results must be readable
        temporary.replace(path)
    except OSError as error:
        reason = {
            errno.ENOSPC: "the disk is full: free some space and run again",
            errno.EACCES: "permission denied: choose a folder that you may write to",
        }.get(error.errno or 0, str(error))
        msg = f"can't write {path}: {reason}"
        raise StorageError(msg) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path, names: str = ".+") -> None:
    """Remove what killed processes left in a folder, and in those below, of `write` to files with `names` (a pattern).

    The caller must hold the lock of everything that writes such files there.
    """
    for path in folder.rglob(".*"):
        made = _TEMPORARY.fullmatch(path.name)
        if made and re.fullmatch(names, made[1]) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def seal(data: bytes) -> bytes:
    """`data`, followed by a hash that shows later whether a bit has changed."""
    return data + _SEAL + hashlib.sha256(data).hexdigest().encode()


def unseal(sealed: bytes) -> bytes | None:
    """The data of `seal`; None if a bit has changed, the end is missing, or the bytes are something else."""
    cut = max(0, len(sealed) - len(_SEAL) - _DIGITS)
    return sealed[:cut] if seal(sealed[:cut]) == sealed else None


def save_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Store tensors and plain values atomically, with a hash for `load_own`."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write(path, seal(buffer.getvalue()))


def read(path: Path) -> bytes:
    """The content of a file, empty for a folder; raises TaskError with the reason."""
    try:
        return b"" if path.is_dir() else path.read_bytes()
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise TaskError(msg) from error


def load_own(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file of `save_tensors`; raises DamagedFile, ending in `remedy`, if it is not exactly what was written."""
    data = unseal(read(path))
    try:
        state = None if data is None else torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _UNREADABLE:
        state = None
    if not isinstance(state, dict):
        msg = f"can't read {path}: it is damaged, incomplete, or not a file of this release; {remedy}"
        raise DamagedFile(msg)
    return state


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a public checkpoint or a `.safetensors` file; no code in it is executed.

    Its hash is not checked here: `download.fetch` does that whenever it returns the file.
    """
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise TaskError(msg) from error
    except _UNREADABLE as error:
        msg = f"can't read {path}: {first_line(error)}; it is no checkpoint that this version of torch can read"
        raise TaskError(msg) from error
    if not isinstance(state, dict):
        msg = f"{path} holds a {type(state).__name__}, not named tensors: it is no checkpoint"
        raise TaskError(msg)
    return state
