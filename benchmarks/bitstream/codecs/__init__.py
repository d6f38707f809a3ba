"""Codecs by name. Each is a module with two symmetric functions, `encode` and `decode`, and a `part()` for their input.

A method brings a storage format of its own as `CODECS` in its package; the name in the file is then "<method>.<codec>".
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
