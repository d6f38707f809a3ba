"""How this process holds memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys

__fingerprint__ = False  # how memory is held, not what is computed
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_LARGEST = 1 << 30


def keep() -> None:
    """Let glibc keep large blocks for the next layer; other systems are left as they are.

    By default each activation of a 224 × 224 image is given back to the system and zeroed anew, which takes two thirds of
    an evaluation.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            _ = mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _LARGEST)
