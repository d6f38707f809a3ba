"""The cache folder, reading of files, and atomic writing."""

from __future__ import annotations

import errno
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

from benchmarks.errors import RateBenchError, TaskError

__fingerprint__ = False  # location of files, not their content
_TEMPORARY = re.compile(
    r"\.(.+)\.[a-z0-9_]{8}"
)  # `write` to "name" starts with ".name.", then tempfile's random letters


class StorageError(RateBenchError):
    """A file can't be written, for example for lack of space or permission."""


def cache_folder() -> Path:
    """The folder of downloads and trained references: `RATEBENCH_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("RATEBENCH_CACHE") or pooch.os_cache("ratebench"))


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


def save_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Store tensors and plain values, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write(path, buffer.getvalue())


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a file of `save_tensors`, a public checkpoint or a `.safetensors` file; no code in it is executed."""
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, OSError, SafetensorError) as error:
        msg = f"can't read {path}: {str(error).splitlines()[0]}; delete it and run again"
        raise TaskError(msg) from error
    if not isinstance(state, dict):
        msg = f"{path} holds a {type(state).__name__}, not named tensors: delete it and fetch it again"
        raise TaskError(msg)
    return state
