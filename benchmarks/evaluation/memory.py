"""Settings of this process's memory allocator."""

from __future__ import annotations

import contextlib
import ctypes
import sys

__fingerprint__ = False  # changes memory allocation, not results
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_LARGEST = 1 << 30


def keep() -> None:
    """Make glibc keep freed large blocks for the next layer; no effect on other systems.

    By default, the memory of each activation of a 224 × 224 image is returned to the system and zeroed again, which takes
    two thirds of the evaluation time.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            _ = mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _LARGEST)
