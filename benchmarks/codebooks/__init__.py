"""What vector quantisers share: weights as vectors, k-means, training of codewords, and the curve over operating points."""

from benchmarks.codebooks.curve import Book, Settings, curve, describe, described, refused
from benchmarks.codebooks.vectors import Layer, collect, groups, stack, weights

__all__ = [
    "Book",
    "Layer",
    "Settings",
    "collect",
    "curve",
    "describe",
    "described",
    "groups",
    "refused",
    "stack",
    "weights",
]
