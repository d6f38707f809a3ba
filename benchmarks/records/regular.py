"""Reading files whose content may come from elsewhere: regular ones only, up to a limit, and never a pipe that blocks."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

_SAFELY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class NotRegular(OSError):
    """A folder, a pipe, a device or a link, or a file beyond the limit."""


def read(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes, also through a symbolic link; raises OSError."""
    with _opened(path, _SAFELY) as file:
        if (size := os.fstat(file.fileno()).st_size) > limit:
            msg = f"it has {size:,} bytes, more than {limit:,}"
            raise NotRegular(msg)
        return file.read(limit)


def read_end(path: Path, size: int) -> bytes:
    """The last `size` bytes of a file, or all; raises OSError, also for a symbolic link."""
    if path.is_symlink():
        raise NotRegular("it is a link")
    with _opened(path, _SAFELY | _NO_LINK) as file:
        file.seek(max(os.fstat(file.fileno()).st_size - size, 0))
        return file.read(size)


def _opened(path: Path, flags: int) -> io.FileIO:
    file = io.FileIO(path, opener=lambda name, mode: os.open(name, mode | flags))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotRegular("it is no regular file")
    return file
