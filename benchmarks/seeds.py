"""A tree of seeds: every stage of every run has its own generator, so that resuming does not change random numbers."""

from __future__ import annotations

import hashlib

import torch


def derive(*names: str | int) -> int:
    """A 63-bit seed from a path of names: the same path gives the same seed on every machine."""
    path = "/".join(map(str, names)).encode()
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "little") >> 1


def generator(*names: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derive(*names))
