"""Records of operating points: their schema, their files, and rows of records that differ only in their seed."""

from benchmarks.records.files import read, read_cell, read_in_place, write
from benchmarks.records.folders import cells, load, paths, points, stored
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
    "cells",
    "load",
    "paths",
    "points",
    "read",
    "read_cell",
    "read_in_place",
    "stored",
    "write",
]
