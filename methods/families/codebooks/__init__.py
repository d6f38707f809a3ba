"""Code that vector quantisers share: weights as vectors, k-means, training of codewords, the curve over operating points."""

from methods.families.codebooks.book import Book
from methods.families.codebooks.curve import Settings, VectorSettings, curve, described
from methods.families.codebooks.vectors import collect, groups, stack, weights

__all__ = [
    "Book",
    "Settings",
    "VectorSettings",
    "collect",
    "curve",
    "described",
    "groups",
    "stack",
    "weights",
]
