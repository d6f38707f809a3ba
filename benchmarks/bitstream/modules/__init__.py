"""Decoder modules: kinds of module, found by name, with which a file may replace modules of an architecture.

The kind "JoinedConv2d" is the file `joined_conv2d.py` here, with two functions: `spec(…)` describes such a module for the
encoder, `build(arguments, children)` makes it for the decoder and raises ValueError or TypeError for arguments out of
bounds. A new kind is a new file. A method defines its own kinds as `MODULES` in its package; the name in a file is then
"<method>.<name>".

`build` is called with PyTorch's `meta` device as the default and must not choose another device. All tensors of a module
are parameters or buffers, and the parts of the file fill them. Any other setting (a bit width, a frequency) is an argument.
"""

from __future__ import annotations

from typing import cast

from benchmarks import registry
from benchmarks.errors import UnknownName
from methods.interface import DecoderModule

__fingerprint__ = False  # finds kinds by name; their own files count


def get(kind: str) -> DecoderModule:
    """The decoder module of a kind; raises UnknownName if neither the suite nor an installed method has it."""
    key, _, local = kind.partition(".")
    if not local:
        files = {_kind(file): file for file in registry.names(__name__)}
        if kind not in files:
            raise UnknownName("kind of module", kind, files)
        return cast(DecoderModule, registry.find(__name__, "kind of module", files[kind]))
    import methods  # here, not above: methods describe their networks with this package

    own: dict[str, DecoderModule] = getattr(methods.get(key), "MODULES", {})
    if local not in own:
        whose = f"kind of module of method {key!r}"
        raise UnknownName(whose, local, own)
    return own[local]


def _kind(file: str) -> str:
    return "".join(word.capitalize() for word in file.split("_"))
