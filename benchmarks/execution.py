"""One cell, from its method to its records: encode, decode in a fresh process, score, record; resumable at any moment.

A cell's folder under the results folder holds one record and one artefact per operating point, the log of the run, and
`cell.json`, written last. Whatever has the fingerprint of the code at hand is kept; the rest is measured anew.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits

import methods
from benchmarks import bitstream, environment, measure, record, seeds, storage, tasks
from benchmarks.errors import MethodError, RateBenchError, RecordError, StaleCheckpoint
from benchmarks.record import CellState, Record
from benchmarks.scorer import Measurement, Scorer, Wanted
from benchmarks.suites import Cell
from benchmarks.training import processes
from methods.interface import Budget, Compressed

Say = Callable[[str], None]
Outcome = Literal["complete", "failed", "busy"]
WORK = ".work"  # checkpoints, logs and locks of what runs, beside the suites' folders
LOG = "log.txt"
_POINT = re.compile(r"p(\d+)\.(json|rbn)")


class Clock:
    """Seconds spent on the point in progress, by processes that were killed, too: up to their last note in `file`."""

    def __init__(self, file: Path) -> None:
        self._file, self._before, self._start = file, 0.0, time.perf_counter()
        if file.exists():
            self._before = float(file.read_text(encoding="ascii"))

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def note(self) -> None:
        storage.write(self._file, f"{self.seconds():.3f}".encode())

    def pass_over(self) -> None:
        """A point was there already: the time since then belongs to the next."""
        self._start = time.perf_counter()

    def restart(self) -> None:
        self._file.unlink(missing_ok=True)
        self._before, self._start = 0.0, time.perf_counter()


class CellRun:
    """What a method is lent: satisfies `methods.interface.Run`."""

    def __init__(self, cell: Cell, work: Path, device: torch.device, say: Say) -> None:
        self.clock = Clock(work / f"seconds-{cell.fingerprint()}")
        self.seed: int = cell.seed
        self.budget: Budget = cell.budget
        self.device = device
        self._ingredients = cell.ingredients()
        self._work = work
        self._say = say

    def generator(self, *names: str | int) -> torch.Generator:
        return seeds.generator(self.seed, *names)

    def progress(self, message: str) -> None:
        self._say(message)

    def _file(self, stage: str) -> Path:
        return self._work / f"{hashlib.sha256(stage.encode()).hexdigest()[:16]}.pt"

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        if processes.rank() == 0:
            storage.save_tensors(self._file(stage), {"ingredients": self._ingredients, "state": dict(state)})
            self.clock.note()
        processes.wait()

    def restore(self, stage: str) -> dict[str, Any] | None:
        if not processes.agreed(self._file(stage).exists):
            return None
        saved = storage.load_tensors(self._file(stage))
        changed = [name for name, value in self._ingredients.items() if saved["ingredients"].get(name) != value]
        if changed:
            msg = (
                f"the checkpoint of {stage!r} was saved before a change to {' and '.join(changed)}, so it can't be used: "
                "run with --fresh to start this cell over"
            )
            raise StaleCheckpoint(msg)
        state: dict[str, Any] = saved["state"]
        return state


def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def state(cell: Cell, results: Path) -> CellState | None:
    """How the cell ended under the code at hand; None if it has to be run. A damaged file counts as absent."""
    folder = results / cell.id
    try:
        ended = record.read_cell(folder / "cell.json")
        points = [record.read(folder / f"p{i:02d}.json") for i in range(ended.points)]
    except RecordError:
        return None
    fingerprint = cell.fingerprint()
    fresh = all(p.provenance.fingerprint == fingerprint for p in points)
    return ended if ended.fingerprint == fingerprint and fresh else None


def leave_out(cell: Cell, results: Path) -> None:
    """Make the folder of a method whose cell does not apply: a pipeline expects it all the same."""
    folder = results / cell.id
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"can't write in {results}: {error.strerror or error}"
        raise storage.StorageError(msg) from error


def execute(cell: Cell, results: Path, say: Say, scorer: Scorer, fresh: bool = False) -> Outcome:
    """Run one cell to its end, unless another process has it or had it. A failure is recorded, reported and not raised.

    Processes of one `torchrun` go through a cell together; the first one locks and writes. Raises StorageError where
    nothing can be written, for that fails every other cell as well, and RateBenchError where processes lost each other.
    """
    work = results / WORK / cell.id.replace("/", "--")
    lock = FileLock(work.with_name(f"{work.name}.lock"), timeout=0)
    try:
        outcome = processes.agreed(lambda: _claim(cell, results, work, lock, fresh))
        if outcome == "busy":
            say(f"{cell.id}: another process is at it; left to that one")
        return outcome or _Execution(cell, results, work, say, scorer).run()
    except OSError as error:
        msg = f"can't write in {results}: {error.strerror or error}"
        raise storage.StorageError(msg) from error
    finally:
        lock.release()


def _claim(cell: Cell, results: Path, work: Path, lock: FileLock, fresh: bool) -> Outcome | None:
    """Lock the cell and discard what an older run left there if asked to; the outcome if there is nothing to run."""
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        return "busy"
    ended = state(cell, results)
    if ended is not None and ended.status == "complete":  # since it was planned, by another process
        return "complete"
    if fresh:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(exist_ok=True)
    return None


class _Execution:
    """A cell that this process has locked: its folders, what it says and who scores its files."""

    def __init__(self, cell: Cell, results: Path, work: Path, say: Say, scorer: Scorer) -> None:
        self.cell, self.folder, self.work, self.scorer = cell, results / cell.id, work, scorer
        self.say, self.begin, self.fingerprint = say, time.perf_counter(), cell.fingerprint()
        self.log = work / f"log-{self.fingerprint}"
        self.wall_s = 0.0  # of all points

    def run(self) -> Outcome:
        points, error = 0, None
        try:
            for point in self._points():
                points = point + 1
        except Exception as problem:
            if isinstance(problem, storage.StorageError):
                raise
            known = isinstance(problem, RateBenchError)
            error = str(problem) if known else "".join(traceback.format_exception_only(problem)).strip()
            self.say(f"{self.cell.id} failed: {error if known else traceback.format_exc()}")
            alone = processes.count() == 1 or isinstance(problem, MethodError)  # a refusal is one in every process
            if not alone:
                msg = f"{self.cell.id} failed in process {processes.rank()}, so that all have to end: {error}"
                raise RateBenchError(msg) from problem
        processes.wait()  # nobody reads checkpoints any more
        if processes.rank() == 0:
            self._end(points, error)
        return "failed" if error else "complete"

    def _end(self, points: int, error: str | None) -> None:
        if self.log.exists():
            storage.write(self.folder / LOG, self.log.read_bytes())
        if error is None:
            for old in self.folder.glob("p*"):
                if (number := _POINT.fullmatch(old.name)) and int(number[1]) >= points:  # of an older, longer curve
                    old.unlink()
            shutil.rmtree(self.work)
        status: Literal["failed", "complete"] = "failed" if error else "complete"
        ended = CellState(record.SCHEMA, self.fingerprint, status, points, round(self.wall_s, 3), error)
        record.write(self.folder / "cell.json", ended)

    def _tell(self, message: str) -> None:
        """Say it and keep it: a cell that was interrupted goes on in the same log, its seconds from zero again."""
        self.say(message)
        if processes.rank() == 0:
            with self.log.open("a", encoding="utf-8") as log:
                said = message.removeprefix(f"{self.cell.id}: ")
                log.write(f"{time.perf_counter() - self.begin:8.1f} s  {said}\n")

    def _points(self) -> Iterator[int]:
        """Yield each operating point's number when its record is there: the valid one at hand, or a new one."""
        cell, method = self.cell, methods.get(self.cell.method)
        threadpool_limits(torch.get_num_threads())  # BLAS, too: last bits follow the number, and the record tells it
        task = tasks.load(cell.task, cell.network)
        reference_bytes = measure.reference_bytes(task.reference())
        run = CellRun(cell, self.work, device(), self._tell)
        for index, compressed in enumerate(method.compress(task, cell.make_config(), run)):
            path = self.folder / f"p{index:02d}.json"
            self._tell(f"{cell.id}: point {index} {_labels(compressed)}")
            known = processes.agreed(lambda path=path: _valid(path, self.fingerprint))  # type: ignore[misc]
            if known is None:
                measured, encode_s = self._measure(path.with_suffix(".rbn"), compressed)
                wall_s = run.clock.seconds()
                known = _record(cell, index, compressed, measured, reference_bytes, encode_s, wall_s)
                if processes.rank() == 0:
                    record.write(path, known)
                run.clock.restart()
                processes.wait()
            else:
                run.clock.pass_over()
            self.wall_s += known.wall_s
            yield index

    def _measure(self, artefact: Path, compressed: Compressed) -> tuple[Measurement, float]:
        """Write the artefact and have it scored; with the seconds that encoding took."""

        def written() -> tuple[str, float]:
            encode_start = time.perf_counter()
            data = bitstream.encode(compressed)
            encode_s = time.perf_counter() - encode_start
            storage.write(artefact, data)
            return hashlib.sha256(data).hexdigest(), encode_s

        sha256, encode_s = processes.agreed(written)
        notes = self.work / f"counts-{self.fingerprint}"
        measured = self.scorer.score(Wanted(str(artefact), str(notes), processes.rank(), processes.count()))
        if measured.sha256 != sha256:
            msg = f"{artefact} is not the file that was written: is another process writing there?"
            raise RateBenchError(msg)
        correct, total = processes.total(torch.tensor([measured.correct, measured.total], device=device())).tolist()
        return msgspec.structs.replace(measured, correct=correct, total=total), encode_s


def _valid(path: Path, fingerprint: str) -> Record | None:
    """The record that is there already, if it is one of the code at hand."""
    try:
        known = record.read(path)
    except RecordError:
        return None
    return known if known.provenance.fingerprint == fingerprint else None


def _labels(compressed: Compressed) -> dict[str, Any]:
    return {name: value for name, value in compressed.point.items() if name != "notes"}


def _record(
    cell: Cell,
    index: int,
    compressed: Compressed,
    measured: Measurement,
    reference_bytes: int,
    encode_s: float,
    wall_s: float,
) -> Record:
    commit, dirty = environment.commit()
    low, high = measure.wilson(measured.correct, measured.total)
    return Record(
        schema=record.SCHEMA,
        id=f"{cell.id}/p{index:02d}",
        suite=cell.suite,
        task=cell.task,
        network=cell.network,
        method=cell.method,
        faithful=methods.get(cell.method).CARD.faithful,
        config=cell.config,
        config_hash=cell.config_hash,
        budget=cell.budget.name,
        epochs=cell.budget.epochs,
        seed=cell.seed,
        index=index,
        point=_labels(compressed),
        notes=dict(compressed.point.get("notes", {})),
        rate=record.Rate(
            file_bytes=measured.file_bytes,
            by_role=measured.by_role,
            reference_bytes=reference_bytes,
            ratio=reference_bytes / measured.file_bytes,
            bits_per_weight=8 * measured.file_bytes / (reference_bytes / 4),
        ),
        counted=record.Counted(elements=measured.elements, nonzero=measured.nonzero, macs=measured.macs),
        quality=record.Quality(
            metric=tasks.get(cell.task).METRIC,
            correct=measured.correct,
            total=measured.total,
            value=measured.correct / measured.total,
            low=low,
            high=high,
        ),
        speed=record.Speed(
            device=environment.gpu() or environment.cpu(),
            threads=torch.get_num_threads(),
            encode_s=encode_s,
            decode_s=measured.decode_s,
            latency_ms_batch1=measured.latency_ms_batch1,
            latency_ms_batch128=measured.latency_ms_batch128,
        ),
        wall_s=wall_s,
        provenance=record.Provenance(
            fingerprint=cell.fingerprint(),
            commit=commit,
            dirty=dirty,
            command=_command(cell),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=environment.versions(),
            cpu=environment.cpu(),
            gpu=environment.gpu(),
            processes=processes.count(),
            micro=processes.micro(),
            data=tasks.get(cell.task).provenance(cell.network),
            artefact_sha256=measured.sha256,
        ),
    )


def _command(cell: Cell) -> str:
    """What to type to run a cell again as this process does."""
    setting = f"{processes.MICRO}={processes.micro()} " if processes.micro() else ""
    together = f"torchrun --nproc-per-node {processes.count()} --no-python " if processes.count() > 1 else ""
    return setting + together + cell.command
