"""`ratebench accept`: evidence that a change of the code gives the same results, so that existing records stay valid.

Records depend on the contents of files (fingerprint.py). For every kind of cell (method, configuration, budget) that has a
record and whose contents differ between an earlier revision and the working tree, a small cell is run under both: on the
embedded digits if they use all changed code, else on the record's own task. The change is written to equivalents.toml only
if all artefacts and all scores are equal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import yaml

import methods
from benchmarks import equivalents, records, storage, tasks
from benchmarks.configuration import plain
from benchmarks.equivalents import Same
from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import ROOT, Code, json_hash
from benchmarks.records import Record, described
from benchmarks.running.cell import Cell, changes, code
from methods.interface import Budget

Say = Callable[[str], None]
Contents: TypeAlias = tuple[frozenset[str], frozenset[str]]  # before and now
SMALL = "digits"  # the embedded task
EPOCHS = 1.0  # of training for a whole curve


@dataclass(frozen=True)
class Kind:
    """Cells that run the same code: a method with one configuration, with or without training, on one kind of input."""

    method: str
    changes: str  # JSON of the settings that differ from the defaults
    trains: bool
    task: str
    network: str


@dataclass(frozen=True)
class Evidence:
    """A small cell that was run under both versions: the number of its artefacts, and a hash of them and their scores."""

    cell: str
    points: int
    sha256: str


class _Trees:
    """The working tree and an earlier revision, with the code that a cell depends on in each."""

    def __init__(self, old: Path) -> None:
        self.old, self.now = Code(old), Code(ROOT)
        self._accepted = equivalents.rows(old / equivalents.PLACE.relative_to(ROOT))

    def contents(self, method: str, task: str, network: str) -> Contents:
        """(contents before, contents now) that a method's results on a network depend on."""
        package = methods.source(method)
        then = self.old.root / package.relative_to(ROOT) if package.is_relative_to(ROOT) else package
        before = self.old.contents(code(self.old, then, task, network)[1]) if then.exists() else frozenset()
        return before, self.now.contents(code(self.now, package, task, network)[1])

    def differ(self, before: frozenset[str], now: frozenset[str]) -> bool:
        """Whether the two have different fingerprints."""
        return equivalents.before(before, self._accepted) != equivalents.before(now)


def accept(revision: str, why: str, results: Path, say: Say, jobs: int = 1) -> list[Evidence]:
    """Compare a revision with the working tree, and write the change to equivalents.toml if the results are equal.

    Returns the evidence, empty if no record depends on the change. Raises RateBenchError, and writes nothing, if an
    artefact or a score differs, or if a kind of cell can't be run under both versions.
    """
    with _worktree(revision) as (old, commit), tempfile.TemporaryDirectory() as scratch:
        trees = _Trees(old)
        known = list(_recorded(results))
        found = {kind: trees.contents(kind.method, kind.task, kind.network) for kind in _kinds(known, trees)}
        if not found:
            return []
        cells = _small_cells(found, trees)
        say(
            f"{len(found)} kinds of cell with records are affected: {len(cells)} small cells are run under both versions"
        )
        evidence = list(_compared(cells, old, Path(scratch), say, jobs))
        _write(why, commit, trees, _rows(found.values()), evidence)
        return evidence


@contextmanager
def _worktree(revision: str) -> Iterator[tuple[Path, str]]:
    """(a folder with the code of a revision, its commit)."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "before"
        try:
            commit = _git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
            _git("worktree", "add", "--detach", str(place), commit)
        except subprocess.CalledProcessError as error:
            msg = f"{revision!r} is not a revision of this checkout: {error.stderr.strip()}"
            raise RateBenchError(msg) from error
        try:
            yield place, commit
        finally:
            _git("worktree", "remove", "--force", str(place))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _recorded(results: Path) -> Iterator[Record]:
    """The first point of every recorded cell."""
    if not results.is_dir():
        msg = f"there is no folder {results}: say with --results where the records are that shall stay valid"
        raise RateBenchError(msg)
    for suite in sorted(folder.name for folder in results.iterdir() if folder.is_dir()):
        yield from (known for known in records.load(results, suite) if known.index == 0)


def _kinds(known: Iterable[Record], trees: _Trees) -> list[Kind]:
    """The kinds of recorded cells whose contents differ, each with the first network that has a record."""
    found: dict[tuple[str, ...], Kind] = {}
    for r in known:
        if r.method not in methods.names() or r.task not in tasks.names():
            continue
        kind = Kind(r.method, json.dumps(described.changes(r), sort_keys=True), r.epochs != 0, r.task, r.network)
        before, now = trees.contents(r.method, r.task, r.network)
        if trees.differ(before, now):
            architecture = tasks.load(r.task, r.network).architecture
            found.setdefault((kind.method, kind.changes, str(kind.trains), kind.task, architecture), kind)
    return list(found.values())


def _rows(changed: Iterable[Contents]) -> list[Same]:
    """New contents and those that they replace; rows with fewer contents come first.

    If code was only removed, or the same new code replaces different old code in different kinds of cell, a row lists all
    contents of a kind of cell: they identify it.
    """
    found = list(changed)
    went: dict[frozenset[str], set[frozenset[str]]] = {}
    for before, now in found:
        went.setdefault(now - before, set()).add(before - now)
    rows = {
        Same(now - before, before - now) if now - before and len(went[now - before]) == 1 else Same(now, before)
        for before, now in found
    }
    return sorted(rows, key=lambda row: (len(row.now), sorted(row.now)))


def _small_cells(found: dict[Kind, Contents], trees: _Trees) -> list[Cell]:
    """For each kind, a small cell that uses all changed code."""
    cells: dict[str, Cell] = {}
    for kind, changed in found.items():
        cell = next(filter(None, (_on(kind, network, changed, trees) for network in tasks.get(SMALL).NETWORKS)), None)
        cell = cell or _cell(kind, kind.task, kind.network)
        cells[cell.id] = cell
    return list(cells.values())


def _on(kind: Kind, network: str, changed: Contents, trees: _Trees) -> Cell | None:
    """The kind's cell on a network of the small task; None if it does not use all changed code."""
    (before, now), (own_before, own_now) = changed, trees.contents(kind.method, SMALL, network)
    whole = now - before <= own_now - own_before and before - now <= own_before - own_now
    cell = _cell(kind, SMALL, network)
    return cell if whole and cell.unsupported() is None else None


def _cell(kind: Kind, task: str, network: str) -> Cell:
    settings = json.loads(kind.changes)
    method = methods.get(kind.method)
    config = msgspec.convert({**plain(method.Config()), **settings}, method.Config)
    budget = Budget("short", EPOCHS) if kind.trains else Budget("post-training", 0.0)
    return Cell(f"accept-{task}", task, network, kind.method, plain(config), budget, 0)


def _compared(cells: Sequence[Cell], old: Path, scratch: Path, say: Say, jobs: int) -> Iterator[Evidence]:
    """Run the cells under both versions; raises RateBenchError that names the first cells that differ."""
    _parameters(cells, scratch)
    for version, tree in (("before", old), ("now", ROOT)):
        for suite, budget in sorted({(cell.suite, cell.budget.name) for cell in cells}):
            say(f"{version}: {suite}, {budget}")
            _run(suite, budget, tree, scratch, version, jobs)
    different: list[str] = []
    for cell in cells:
        before, now = (_artefacts(scratch / version / cell.id) for version in ("before", "now"))
        if not before or not now:
            msg = f"{cell.id} wrote no artefact: {_reason(scratch, cell)}; nothing was accepted"
            raise RateBenchError(msg)
        different += [f"{cell.id}/{name}" for name in sorted(before | now) if before.get(name) != now.get(name)]
        yield Evidence(cell.id, len(now), json_hash(now))
    if different:
        named = ", ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")
        msg = f"the change gives other results: {named}; nothing was accepted, the records of these methods are stale"
        raise RateBenchError(msg)


def _parameters(cells: Sequence[Cell], scratch: Path) -> None:
    """Write a params.yaml with exactly these cells."""
    found: dict[str, Any] = {
        "budgets": {"post-training": {"epochs": 0}, "short": {"epochs": EPOCHS}},
        "configs": {},
    }
    for cell in cells:
        suite = {"task": cell.task, "networks": [], "methods": [], "seeds": [0], "configs": {}}
        suite = found.setdefault(cell.suite, suite)
        for name, value in (("networks", cell.network), ("methods", cell.method)):
            suite[name] += [] if value in suite[name] else [value]
        configs = suite["configs"].setdefault(cell.budget.name, {}).setdefault(cell.method, [])
        settings = changes(cell.method, cell.config)
        configs += [] if settings in configs else [settings]
    storage.write(scratch / "params.yaml", yaml.safe_dump(found).encode())


def _run(suite: str, budget: str, tree: Path, scratch: Path, version: str, jobs: int) -> None:
    command = [sys.executable, "-m", "benchmarks.cli", "run", suite, "--all-configs", "--budget", budget]
    command += ["--jobs", str(jobs), "--results", version]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    # Cells that fail or are not supported leave no artefact; the caller checks this.
    subprocess.run(command, cwd=scratch, env=environment, capture_output=True, check=False)


def _artefacts(folder: Path) -> dict[str, list[Any]]:
    """For each point, the artefact's hash and the sums of its scores."""
    known = [records.read(path) for path in sorted(folder.glob("p*.json"))]
    return {
        f"p{r.index:02d}": [
            r.provenance.artefact_sha256,
            {n: [s.items, s.total, s.squares] for n, s in r.metrics.items()},
        ]
        for r in known
    }


def _reason(scratch: Path, cell: Cell) -> str:
    for version in ("before", "now"):
        ended = scratch / version / cell.id / "cell.json"
        if ended.exists() and (error := records.read_cell(ended).error):
            return error
    return "it could not be run under both versions"


def _write(why: str, commit: str, trees: _Trees, rows: Sequence[Same], evidence: Sequence[Evidence]) -> None:
    """Add the change to equivalents.toml."""
    place = equivalents.PLACE
    known = place.read_text(encoding="utf-8") if place.exists() else _HEAD
    lines = ["", "[[accepted]]", f"why = {json.dumps(why, ensure_ascii=False)}", f"since = {json.dumps(commit)}"]
    lines += ["evidence = [", *(f"  {_inline(one)}," for one in evidence), "]"]
    for row in rows:
        lines += ["", "[[accepted.same]]", f"files = {json.dumps(_names(trees.now, row.now))}"]
        lines += [f"now = {json.dumps(sorted(row.now))}", f"then = {json.dumps(sorted(row.then))}"]
    storage.write(place, (known.rstrip() + "\n" + "\n".join(lines) + "\n").encode())


_HEAD = "# Changes that were shown to give the same results. `ratebench accept` writes this file, with the evidence of each."


def _inline(one: Evidence) -> str:
    return f"{{ cell = {json.dumps(one.cell)}, points = {one.points}, sha256 = {json.dumps(one.sha256)} }}"


def _names(code_now: Code, contents: frozenset[str]) -> list[str]:
    """The files that have these contents now."""
    found = [
        file for file in code_now.sources(ROOT / "benchmarks", ROOT / "methods") if code_now.contents([file]) & contents
    ]
    return sorted(file.relative_to(ROOT).as_posix() for file in found)
