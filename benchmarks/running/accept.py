"""`ratebench accept`: evidence that a change of the code gives the same results, so that existing records stay valid.

Records depend on the contents of files (fingerprint.py). For every kind of cell (method, configuration, budget) that has a
record and whose contents differ between an earlier revision and the working tree, a small cell is run under both. It uses the
embedded digits if this covers all changed code, otherwise the record's task. If of a task only its own file changed, and
nothing else, no cell is run: what the task gives is compared (task_values.py). The change is written to equivalents.toml only
if all artefacts and all recorded values except times are equal.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, cast

import methods
from benchmarks import equivalents, records, storage, tasks
from benchmarks.equivalents import Same
from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import ROOT, Code
from benchmarks.records import Record, described
from benchmarks.running import small
from benchmarks.running.cell import SCORING, Cell, code
from benchmarks.running.small import Evidence, Kind, Version
from methods.interface import BudgetName

Say = Callable[[str], None]
Contents: TypeAlias = tuple[frozenset[str], frozenset[str]]  # before and now


class _Trees:
    """The working tree and an earlier revision, with the code that a cell depends on in each."""

    def __init__(self, old: Path) -> None:
        self.old, self.now = Code(old), Code(ROOT)
        self._accepted = equivalents.rows(old / equivalents.PLACE.relative_to(ROOT))

    def contents(self, method: str, task: str, network: str) -> Contents:
        """(contents before, contents now) that a method's results on a network depend on; none before if it is new."""
        package = methods.source(method)
        then = self._before(package) if package.is_relative_to(ROOT) else package
        before = self.old.contents(code(self.old, then, task, network)) if then else frozenset[str]()
        return before, self.now.contents(code(self.now, package, task, network))

    def only_task(self, kind: Kind, changed: Contents) -> bool:
        """Whether all that changed is the file of the kind's task, and which files it imports."""
        before, now = changed
        own = self.old.module(f"benchmarks.tasks.{kind.task}")
        elsewhere = self.now.contents(self.now.sources(methods.source(kind.method), *SCORING))
        return own is not None and before - now <= self.old.contents([own]) and not (now - before) & elsewhere

    def _before(self, package: Path) -> Path | None:
        """The path that a method's file or folder had in the earlier revision; it may have been moved since."""
        same = self.old.root / package.relative_to(ROOT)
        known = sorted((self.old.root / "methods").rglob(f"{package.stem}*"))
        moved = (p for p in known if p.stem == package.stem and (p.suffix == ".py" or (p / "__init__.py").exists()))
        return same if same.exists() else next(moved, None)

    def differ(self, before: frozenset[str], now: frozenset[str], rows: Sequence[Same] = ()) -> bool:
        """Whether the two have different fingerprints, with `rows` added to the accepted changes."""
        return equivalents.before(before, self._accepted) != equivalents.before(now, [*equivalents.rows(), *rows])


def accept(revision: str, why: str, results: Path, say: Say, jobs: int = 1) -> list[Evidence]:
    """Compare a revision with the working tree, and write the change to equivalents.toml if the results are equal.

    Returns the evidence, empty if no record depends on the change. Raises RateBenchError, and writes nothing, if an
    artefact or a recorded value differs, or if a kind of cell can't be run under both versions.
    """
    with _worktree(revision) as (old, commit), tempfile.TemporaryDirectory() as scratch:
        trees = _Trees(old)
        known = list(_recorded(results))
        found = {kind: trees.contents(kind.method, kind.task, kind.network) for kind in _kinds(known, trees)}
        if not found:
            return []
        by_task = {kind: trees.only_task(kind, changed) for kind, changed in found.items()}
        touched = {kind.task for kind, whether in by_task.items() if whether}
        given = dict.fromkeys(
            (r.task, r.network) for r in known if r.task in touched and r.network in tasks.get(r.task).NETWORKS
        )
        rows = _rows(found.values(), trees)
        cells = _small_cells({kind: changed for kind, changed in found.items() if not by_task[kind]}, trees)
        say(
            f"kinds of cell with records that are affected: {len(found)}; to compare under both versions, small cells: "
            f"{len(cells)}, networks of a task: {len(given)}"
        )
        versions = Version("before", old, Path(scratch, "before")), Version("now", ROOT, Path(scratch, "now"))
        for version in versions:
            for _, members in itertools.groupby(sorted(cells, key=_place), key=_place):
                together = list(members)
                say(f"{version.name}: {', '.join(_place(together[0]))} (cells: {len(together)})")
                version.run(together, jobs)
        evidence = [*small.compare(*versions, cells), *small.compare_tasks(*versions, given)]
        _write(why, commit, trees, rows, evidence)
        return evidence


@contextmanager
def _worktree(revision: str) -> Iterator[tuple[Path, str]]:
    """(a folder with the code of a revision, its commit); the folder is removed even if the process is terminated."""
    known = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", wanted=revision)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "before"
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # git locks a worktree while creating it
            _git("worktree", "add", "--detach", str(place), commit)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            yield place, commit
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGTERM, known)
        _git("worktree", "prune")  # worktrees whose folder was deleted


def _git(*arguments: str, wanted: str = "") -> str:
    """The output of git; raises RateBenchError with git's error message, or one about `wanted`, the revision to find."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        complaint = f"git {arguments[0]} failed in {ROOT}: {error.stderr.strip()}"
        msg = f"{wanted!r} is not a revision of this checkout" if wanted else complaint
        raise RateBenchError(msg) from error
    except OSError as error:
        msg = f"accept compares with an earlier revision and needs git: {error.strerror or error}"
        raise RateBenchError(msg) from error
    return done.stdout.strip()


def _recorded(results: Path) -> Iterator[Record]:
    """The first point of every recorded cell."""
    if not results.is_dir():
        msg = f"there is no folder {results}: pass the folder of the records with --results"
        raise RateBenchError(msg)
    for suite in sorted(folder.name for folder in results.iterdir() if folder.is_dir()):
        yield from (known for known in records.load(results, suite) if known.index == 0)


def _kinds(known: Iterable[Record], trees: _Trees) -> list[Kind]:
    """The kinds of recorded cells whose contents differ, each with the first network that has a record.

    Records of a method, task or network that no longer exists are left out: they can't be valid.
    """
    found: dict[tuple[str, ...], Kind] = {}
    for r in known:
        if (
            r.method not in methods.names()
            or r.task not in tasks.names()
            or r.network not in tasks.get(r.task).NETWORKS
        ):
            continue
        changed = json.dumps(described.changes(r), sort_keys=True)
        kind = Kind(r.method, changed, cast(BudgetName, r.budget), r.task, r.network)
        if trees.differ(*trees.contents(r.method, r.task, r.network)):
            architecture = tasks.load(r.task, r.network).architecture
            found.setdefault((kind.method, kind.changes, kind.budget, kind.task, architecture), kind)
    return list(found.values())


def _rows(changed: Iterable[Contents], trees: _Trees) -> list[Same]:
    """New contents and those that they replace; rows with fewer contents come first.

    A row lists all contents of a kind of cell in three cases: code was only removed, the same new code replaces
    different old code in different kinds of cell, or the shorter rows together do not give a kind its old fingerprint.
    """
    found = list(changed)
    went: dict[frozenset[str], set[frozenset[str]]] = {}
    for before, now in found:
        went.setdefault(now - before, set()).add(before - now)
    rows = {
        Same(now - before, before - now) if now - before and len(went[now - before]) == 1 else Same(now, before)
        for before, now in found
    }
    while wrong := {Same(now, before) for before, now in found if trees.differ(before, now, _ordered(rows))}:
        if wrong <= rows:
            raise RateBenchError(
                "this change can't be accepted as a whole: accept it in smaller steps; nothing was accepted"
            )
        rows = wrong | {row for row in rows if all(row.now != other.now for other in wrong)}
    return _ordered(rows)


def _ordered(rows: Iterable[Same]) -> list[Same]:
    return sorted(rows, key=lambda row: (len(row.now), sorted(row.now)))


def _small_cells(found: dict[Kind, Contents], trees: _Trees) -> list[Cell]:
    """For each kind, a small cell that uses all changed code."""
    cells: dict[str, Cell] = {}
    for kind, changed in found.items():
        networks = tasks.get(small.TASK).NETWORKS
        cell = next(filter(None, (_on(kind, network, changed, trees) for network in networks)), None)
        if cell is None and kind.budget == "paper":
            msg = (
                f"no small cell uses all the changed code of {kind.method} on {kind.task} at the paper budget, whose schedule "
                "can't be made shorter: run these cells again; nothing was accepted"
            )
            raise RateBenchError(msg)
        cell = cell or kind.cell(kind.task, kind.network)
        cells[cell.id] = cell
    return list(cells.values())


def _on(kind: Kind, network: str, changed: Contents, trees: _Trees) -> Cell | None:
    """The kind's cell on a network of the small task; None if it does not use all changed code."""
    (before, now), (own_before, own_now) = changed, trees.contents(kind.method, small.TASK, network)
    whole = now - before <= own_now - own_before and before - now <= own_before - own_now
    cell = kind.cell(small.TASK, network)
    return cell if whole and cell.unsupported() is None else None


def _place(cell: Cell) -> tuple[str, str, str]:
    """Cells with the same place are run by one command."""
    return cell.task, cell.network, cell.budget.name


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
