"""An earlier name of what `uniform` writes where context coding is shorter: files that have it decode as before."""

from __future__ import annotations

from benchmarks.bitstream.codecs.uniform import decode, encode, part

__all__ = ["decode", "encode", "part"]
