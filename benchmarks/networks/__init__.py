"""Architectures by name. A file names an architecture and its arguments; the decoder executes no other code for it.

The module `x.py` holds the architecture "x" as a function `x(**arguments)` that raises ValueError for bad arguments.

A module without parameters that copies channels may define `channel_map(inputs)` and `stride`. The map gives for each output
channel the input channel that it copies, or `inputs` for zeros; the stride is the distance between the pixels that it keeps.
Channels can then be followed through the module without running it.

A network that draws a picture from coordinates (`sine`) has a `size`: the picture's height and width in pixels.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from benchmarks import registry
from benchmarks.errors import RateBenchError, UnknownName, in_short

__fingerprint__ = False  # finds architectures by name; their own files count


class NetworkError(RateBenchError):
    """An architecture is unknown or its arguments are out of range."""


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The architecture `name` with `arguments`, untrained.

    Raises NetworkError for an unknown name, bad arguments, or a library that the architecture needs and that can't be
    imported; BrokenModule if its own module can't.
    """
    try:
        network: nn.Module = getattr(registry.find(__name__, "architecture", name), name)(**arguments)
    except UnknownName as error:
        raise NetworkError(str(error)) from error
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        msg = f"architecture {name!r} can't be built with {reprlib.repr(dict(arguments))}: {error}"
        raise NetworkError(msg) from error
    except (ImportError, OSError) as error:
        msg = f"architecture {name!r} can't be built here: {in_short(error)}"
        raise NetworkError(msg) from error
    return network
