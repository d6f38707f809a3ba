"""Records of operating points: their schema, their files, and rows of records that differ only in their seed."""

from benchmarks.records.files import load, paths, read, read_cell, write
from benchmarks.records.schema import SCHEMA, CellState, Counted, Provenance, Rate, Record, Score, Speed

__all__ = [
    "SCHEMA",
    "CellState",
    "Counted",
    "Provenance",
    "Rate",
    "Record",
    "Score",
    "Speed",
    "load",
    "paths",
    "read",
    "read_cell",
    "write",
]
