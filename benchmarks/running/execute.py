"""Running one cell: encode, decode in a fresh process, score, record; resumable at any time."""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import torch
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits

import methods
from benchmarks import bitstream, records, storage, tasks
from benchmarks.errors import DamagedFile, MethodError, RateBenchError
from benchmarks.evaluation import shards
from benchmarks.evaluation.messages import Measurement, Wanted
from benchmarks.evaluation.metrics import NOTHING, Sums
from benchmarks.evaluation.scorer import Scorer
from benchmarks.fingerprint import here
from benchmarks.records import CellState, items
from benchmarks.records.schema import ITEMS, REFERENCE
from benchmarks.running import references
from benchmarks.running.cell import Cell, code
from benchmarks.running.contents import items_hash, reference_hash
from benchmarks.running.environment import device
from benchmarks.running.lent import START_OVER, CellRun, Say
from benchmarks.running.recording import record
from benchmarks.running.state import LOG, WORK, state, valid
from benchmarks.running.validation import validated
from benchmarks.training import processes
from methods.interface import Compressed, Metric

Outcome = Literal["complete", "failed", "busy"]
_POINT = re.compile(r"p(\d+)\.(json|rbn|items)")
_FILES = rf"{_POINT.pattern}|cell\.json|{re.escape(LOG)}"  # in the cell's folder


def execute(cell: Cell, results: Path, say: Say, scorer: Scorer, fresh: bool = False) -> Outcome:
    """Run one cell, unless another process runs it or has finished it. A failure is recorded and reported, not raised.

    The processes of one `torchrun` run a cell together; the first one locks and writes. Raises StorageError if nothing can
    be written, since every other cell would fail as well, and RateBenchError if a process was lost.
    """
    work = results / WORK / cell.id.replace("/", "--")
    lock = FileLock(work.with_name(f"{work.name}.lock"), timeout=0)
    try:
        outcome = processes.broadcast(lambda: _claim(cell, results, work, lock, fresh))
        if outcome == "busy":
            say(f"{cell.id}: another process is running it; skipped here")
        return outcome or _Execution(cell, results, work, say, scorer).run()
    except OSError as error:
        msg = f"can't write in {results}: {error.strerror or error}"
        raise storage.StorageError(msg) from error
    finally:
        lock.release()


def _claim(cell: Cell, results: Path, work: Path, lock: FileLock, fresh: bool) -> Outcome | None:
    """Lock the cell and, if requested, discard checkpoints of an older run; returns the outcome if there is nothing to run."""
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        return "busy"
    storage.remove_temporaries(results / cell.id, _FILES)
    storage.remove_temporaries(work)
    ended = state(cell, results)
    if ended is not None and ended.status == "complete":  # completed by another process since planning
        return "complete"
    if fresh:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(exist_ok=True)
    return None


class _Execution:
    """A cell that this process has locked: its folders, its log and the process that scores its files."""

    def __init__(self, cell: Cell, results: Path, work: Path, say: Say, scorer: Scorer) -> None:
        self.cell, self.folder, self.work, self.scorer = cell, results / cell.id, work, scorer
        self.say, self.begin, self.fingerprint = say, time.perf_counter(), cell.fingerprint()
        self.log, self._notes = work / f"log-{self.fingerprint}", work / f"scores-{self.fingerprint}"
        self.results, self.task = results, tasks.load(cell.task, cell.network)
        self.wall_s = 0.0  # of all points

    def run(self) -> Outcome:
        points, error = 0, None
        try:
            self._check_work()
            reference = reference_hash(self.task)  # trains it if needed
            if processes.broadcast(self._is_complete):
                return "complete"
            for point in self._points(reference):
                points = point + 1
        except Exception as problem:
            if isinstance(problem, storage.StorageError):
                raise
            known = isinstance(problem, RateBenchError)
            error = str(problem) if known else "".join(traceback.format_exception_only(problem)).strip()
            self.say(f"{self.cell.id} failed: {error if known else traceback.format_exc()}")
            alone = processes.count() == 1 or isinstance(
                problem, MethodError
            )  # all processes raise the same MethodError
            if not alone:
                msg = f"{self.cell.id} failed in process {processes.rank()}, so all processes end: {error}"
                raise RateBenchError(msg) from problem
        processes.wait()  # no process reads checkpoints any more
        if processes.rank() == 0:
            self._end(points, error)
        return "failed" if error else "complete"

    def _check_work(self) -> None:
        """Raise DamagedFile if something else is in the place of the log or of the scores."""
        for path, right in ((self.log, self.log.is_file()), (self._notes, self._notes.is_dir())):
            if path.exists() and not right:
                msg = f"{path} is not a {'file' if path == self.log else 'folder'} of this cell: {START_OVER}"
                raise DamagedFile(msg)

    def _is_complete(self) -> bool:
        """Whether the cell needed only its reference to be trained again; its work is then removed."""
        ended = state(self.cell, self.results)
        complete = ended is not None and ended.status == "complete"
        if complete:
            shutil.rmtree(self.work)
        return complete

    def _end(self, points: int, error: str | None) -> None:
        if self.log.is_file():
            storage.write(self.folder / LOG, self.log.read_bytes())
        if error is None:
            for old in self.folder.glob("p*"):
                if (number := _POINT.fullmatch(old.name)) and int(number[1]) >= points:  # from an older, longer curve
                    old.unlink()
            shutil.rmtree(self.work)
        status: Literal["failed", "complete"] = "failed" if error else "complete"
        ended = CellState(records.SCHEMA, self.fingerprint, status, points, round(self.wall_s, 3), error)
        records.write(self.folder / "cell.json", ended)

    def _tell(self, message: str) -> None:
        """Print and log a message; a resumed cell continues the same log, with seconds from zero."""
        self.say(message)
        if processes.rank() == 0:
            with self.log.open("a", encoding="utf-8") as log:
                said = message.removeprefix(f"{self.cell.id}: ")
                log.write(f"{time.perf_counter() - self.begin:8.1f} s  {said}\n")

    def _points(self, reference: str | None) -> Iterator[int]:
        """Yield the number of each operating point when it has a valid record, existing or new.

        `reference` is the hash of the task's reference.
        """
        cell, method = self.cell, methods.get(self.cell.method)
        threadpool_limits(torch.get_num_threads())  # for BLAS: the last bits depend on it; records contain it
        required = references.with_reference(cell.task, cell.network, reference)
        run = CellRun(cell, self.work, device(), self._tell, required)
        for index, compressed in enumerate(method.compress(self.task, cell.make_config(), run)):
            path = self.folder / f"p{index:02d}.json"
            self._tell(f"{cell.id}: point {index} {dict(compressed.point)}")
            known = processes.broadcast(lambda path=path: valid(path, cell, self.fingerprint, required))  # type: ignore[misc]
            if known is None:
                self._check_architecture(compressed.architecture)
                measured, encode_s = self._measure(path.with_suffix(".rbn"), compressed)
                contents = {REFERENCE: reference} if reference else {}
                contents[ITEMS] = processes.broadcast(lambda: self._items)
                chosen_by = self._validated(path.with_suffix(".rbn"))
                known = record(cell, index, compressed, measured, chosen_by, encode_s, run.clock.seconds(), contents)
                if processes.rank() == 0:
                    self._keep_items(path, measured)
                    records.write(path, known)
                run.clock.restart()
                processes.wait()
            else:
                run.clock.pass_over()
            self.wall_s += known.wall_s
            yield index

    def _check_architecture(self, name: str) -> None:
        """Raise MethodError if the fingerprint does not cover the code of the network that the method writes."""
        cell, known = self.cell, here()
        file = known.module(f"benchmarks.networks.{name}") if name.isidentifier() else None
        if file is not None and file not in code(known, methods.source(cell.method), cell.task, cell.network):
            msg = (
                f"{cell.method} writes the network {name!r}, on whose code its records would not depend: "
                f"import benchmarks.networks.{name} in the method"
            )
            raise MethodError(msg)

    def _measure(self, artefact: Path, compressed: Compressed) -> tuple[Measurement, float]:
        """Write the artefact and score it; also returns the seconds for encoding."""

        def written() -> tuple[str, float]:
            encode_start = time.perf_counter()
            data = bitstream.encode(compressed)
            encode_s = time.perf_counter() - encode_start
            storage.write(artefact, data)
            return hashlib.sha256(data).hexdigest(), encode_s

        sha256, encode_s = processes.broadcast(written)
        wanted = Wanted(str(artefact), str(self._notes), processes.rank(), processes.count())
        measured = self.scorer.score(wanted)
        if measured.sha256 != sha256:
            msg = f"{artefact} is not the file that was written: is another process writing there?"
            raise RateBenchError(msg)
        scores = _added_up(tasks.get(self.cell.task).METRICS, measured.scores)
        return msgspec.structs.replace(measured, scores=scores), encode_s

    def _validated(self, artefact: Path) -> Sums | None:
        """The sums of the first metric over the validation items, if the task has any."""
        first, own = tasks.get(self.cell.task).METRICS[0], validated(artefact, self.task)
        return None if own is None else _added_up([first], {first.name: own})[first.name]

    @functools.cached_property
    def _items(self) -> str:
        return items_hash(self.task, tasks.get(self.cell.task).test(self.cell.network))

    def _keep_items(self, path: Path, measured: Measurement) -> None:
        """Store the value of every test item beside the record, from the shards of all processes."""
        test, metric = tasks.get(self.cell.task).test(self.cell.network), tasks.get(self.cell.task).METRICS[0]
        values = shards.noted_items(self._notes, measured.sha256, metric, test.items, device())
        storage.write(items.path_beside(path), items.pack(metric, values))


def _added_up(metrics: Sequence[Metric], scores: Mapping[str, Sums]) -> dict[str, Sums]:
    """The sums over all processes, in the order of `metrics`; a process without a shard of the test items adds nothing."""
    found = {}
    for metric in metrics:
        own = scores.get(metric.name, NOTHING)
        whole = processes.total(torch.tensor([own.items, own.total, own.squares], dtype=torch.float64, device=device()))
        count, total, squares = whole.tolist()
        exact = metric.kind == "proportion"
        found[metric.name] = Sums(int(count), int(total) if exact else total, int(squares) if exact else squares)
    return found
