"""Networks as bytes: `encode` a description, `decode` a file."""

from benchmarks.bitstream.container import bytes_by_role, decode, encode

__all__ = ["bytes_by_role", "decode", "encode"]
