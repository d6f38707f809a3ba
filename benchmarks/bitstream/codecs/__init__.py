"""Codecs by name. Each is a module with two symmetric functions, `encode` and `decode`, and `part()`, which builds the input.

A method with its own storage format defines `CODECS` in its package; in a file the name is "<method>.<codec>".
"""

from __future__ import annotations

from typing import cast

from benchmarks import registry
from benchmarks.errors import UnknownName
from methods.interface import Codec

__fingerprint__ = False  # finds codecs by name; their own files count


def get(name: str) -> Codec:
    """The codec called `name`; raises UnknownName if neither the suite nor an installed method has it."""
    key, _, local = name.partition(".")
    if not local:
        return cast(Codec, registry.find(__name__, "codec", name))
    import methods  # here, not above: methods build their parts with this package

    codecs: dict[str, Codec] = getattr(methods.get(key), "CODECS", {})
    if local not in codecs:
        kind = f"codec of method {key!r}"
        raise UnknownName(kind, local, codecs)
    return codecs[local]
