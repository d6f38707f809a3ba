"""Bring all records to schema 2 and to the fingerprints of this code, once.

Run while all records are valid under the code before the restructuring, after both versions were shown to write the same
files. The argument is a JSON file with each method's default configuration before.
Settings that no configuration uses are dropped; a configuration is named by what differs from the defaults. So cells get new
names, and their records new ids, configurations, commands and fingerprints. All other values stay.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

import methods
from benchmarks import records
from benchmarks.running.cell import Cell, changes
from benchmarks.running.params import plain
from methods.interface import Budget

OLD = json.loads(Path(sys.argv[1]).read_text())  # method -> default configuration before
results = Path("results")
moved = done = 0
for folder in sorted(p for p in results.glob("*/*/*/*") if p.is_dir() and (p / "cell.json").exists()):
    suite, network, method, label = folder.parts[1:]
    paths = sorted(folder.glob("p*.json"))
    known = [records.read(p) for p in paths]
    Config = methods.get(method).Config
    fields = plain(Config())
    cell = None
    for path, r in zip(paths, known, strict=True):
        dropped = {k: v for k, v in r.config.items() if k not in fields}
        for k, v in dropped.items():
            assert OLD[method][k] == v, (path, k, v)
        config = plain(msgspec.convert({k: v for k, v in r.config.items() if k in fields}, Config))
        kept = {k: v for k, v in r.config.items() if k in fields}
        assert all(config[k] == v for k, v in kept.items()), path
        before = {k: v for k, v in r.config.items() if OLD[method][k] != v}
        assert changes(method, config) == before, (changes(method, config), before)
        cell = Cell(suite, r.task, network, method, config, Budget(r.budget, r.epochs), r.seed)
        new = msgspec.structs.replace(
            r,
            id=f"{cell.id}/p{r.index:02d}",
            config=config,
            config_hash=cell.config_hash,
            provenance=msgspec.structs.replace(
                r.provenance,
                fingerprint=cell.fingerprint(),
                command=r.provenance.command.replace(f"--config {r.config_hash}", f"--config {cell.config_hash}"),
            ),
        )
        records.write(path, new)
        done += 1
    state = records.read_cell(folder / "cell.json")
    assert state.status == "complete" and cell is not None
    records.write(folder / "cell.json", msgspec.structs.replace(state, fingerprint=cell.fingerprint(), schema=2))
    target = results / cell.id
    if target != folder:
        assert not target.exists(), target
        subprocess.run(["git", "mv", str(folder), str(target)], check=True)
        moved += 1
print(done, "records", moved, "cells renamed")
