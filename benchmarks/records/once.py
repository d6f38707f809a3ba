"""Give all records the fingerprints of the formula that hashes all code at once. Run once, when all are current.

The first argument is a folder with the code that the records are current with. Only fingerprints change.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import msgspec

import methods
from benchmarks import records
from benchmarks.fingerprint import ROOT, Code, json_hash
from benchmarks.records import described
from benchmarks.running.cell import Cell, code
from methods.interface import Budget

old = Code(Path(sys.argv[1]).resolve())
for ended in sorted(Path("results").glob("*/*/*/*/cell.json")):
    paths = sorted(ended.parent.glob("p*.json"))
    known = [records.read(path) for path in paths]
    r = known[0]
    cell = Cell(r.suite, r.task, r.network, r.method, described.changes(r), Budget(r.budget, r.epochs), r.seed)
    files = code(old, old.root / methods.source(r.method).relative_to(ROOT), r.task, r.network)
    ingredients = {
        **cell.ingredients(),
        "the code": hashlib.sha256("\n".join(sorted(old.contents(files))).encode()).hexdigest(),
    }
    name = json_hash(ingredients)[:16]
    records.write(ended, msgspec.structs.replace(records.read_cell(ended), fingerprint=name))
    for path, record in zip(paths, known, strict=True):
        provenance = msgspec.structs.replace(record.provenance, fingerprint=name)
        records.write(path, msgspec.structs.replace(record, provenance=provenance))
