"""From plan to records: encode, decode in a fresh process, score, record; idempotent, resumable, in parallel.

A cell's folder under the results folder holds one record and one artefact per operating point, and `cell.json`, written
last. Whatever has the fingerprint of the code at hand is kept; the rest is measured anew.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from filelock import FileLock, Timeout

import methods
from benchmarks import bitstream, cluster, environment, measure, memory, record, seeds, storage, tasks
from benchmarks.errors import MethodError, RateBenchError, RecordError, StaleCheckpoint
from benchmarks.record import CellState, Record
from benchmarks.scorer import Measurement, Scorer, Wanted
from benchmarks.suites import Cell
from benchmarks.training import processes
from methods.interface import Budget, Compressed, Task

Say = Callable[[str], None]
Outcome = Literal["complete", "failed", "busy"]
WORK = ".work"  # checkpoints and locks, beside the suites' folders
_POINT = re.compile(r"p(\d+)\.(json|rbn)")


class CellRun:
    """What a method is lent: satisfies `methods.interface.Run`."""

    def __init__(self, cell: Cell, work: Path, device: torch.device, say: Say) -> None:
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
        return outcome or _execute(cell, results, work, say, scorer)
    except OSError as error:
        msg = f"can't write in {results}: {error.strerror or error}"
        raise storage.StorageError(msg) from error
    finally:
        lock.release()


def _claim(cell: Cell, results: Path, work: Path, lock: FileLock, fresh: bool) -> Outcome | None:
    """Lock the cell and discard old checkpoints if asked to; the outcome if there is nothing to run."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        return "busy"
    ended = state(cell, results)
    if ended is not None and ended.status == "complete":  # since it was planned, by another process
        return "complete"
    if fresh:
        for old in work.glob("*.pt"):
            old.unlink()
    return None


def _execute(cell: Cell, results: Path, work: Path, say: Say, scorer: Scorer) -> Outcome:
    folder, begin, points, error = results / cell.id, time.perf_counter(), 0, None
    try:
        for point in _points(cell, folder, work, say, scorer):
            points = point + 1
    except Exception as problem:
        if isinstance(problem, storage.StorageError):
            raise
        known = isinstance(problem, RateBenchError)
        error = str(problem) if known else "".join(traceback.format_exception_only(problem)).strip()
        say(f"{cell.id} failed: {error if known else traceback.format_exc()}")
        if processes.count() > 1 and not isinstance(
            problem, MethodError
        ):  # what a method refuses, it refuses everywhere
            msg = f"{cell.id} failed in process {processes.rank()}, so that all have to end: {error}"
            raise RateBenchError(msg) from problem
    processes.wait()  # nobody reads checkpoints any more
    if processes.rank() == 0:
        if error is None:
            for old in folder.glob("p*"):
                if (number := _POINT.fullmatch(old.name)) and int(number[1]) >= points:  # of an older, longer curve
                    old.unlink()
            shutil.rmtree(work)
        ended = CellState(
            record.SCHEMA,
            cell.fingerprint(),
            "failed" if error else "complete",
            points,
            round(time.perf_counter() - begin, 3),
            error,
        )
        record.write(folder / "cell.json", ended)
    return "failed" if error else "complete"


def _points(cell: Cell, folder: Path, work: Path, say: Say, scorer: Scorer) -> Iterator[int]:
    """Yield the number of each operating point when its record is there: the valid one at hand, or a new one."""
    method = methods.get(cell.method)
    task = tasks.load(cell.task, cell.network)
    fingerprint = cell.fingerprint()
    reference_bytes = measure.reference_bytes(task.reference())
    run = CellRun(cell, work, device(), say)
    start = time.perf_counter()
    for index, compressed in enumerate(method.compress(task, cell.make_config(), run)):
        path = folder / f"p{index:02d}.json"
        say(f"{cell.id}: point {index} {_labels(compressed)}")
        if not processes.agreed(lambda path=path: _is_valid(path, fingerprint)):  # type: ignore[misc]
            _measure(
                cell, index, compressed, path, work / f"counts-{fingerprint}", task, scorer, reference_bytes, start
            )
        start = time.perf_counter()
        yield index


def _is_valid(path: Path, fingerprint: str) -> bool:
    try:
        return record.read(path).provenance.fingerprint == fingerprint
    except RecordError:
        return False


def _labels(compressed: Compressed) -> dict[str, Any]:
    return {name: value for name, value in compressed.point.items() if name != "notes"}


def _measure(
    cell: Cell,
    index: int,
    compressed: Compressed,
    path: Path,
    notes: Path,
    task: Task,
    scorer: Scorer,
    reference_bytes: int,
    start: float,
) -> None:
    """Write the artefact, score it, and write its record."""
    artefact = path.with_suffix(".rbn")

    def written() -> tuple[str, float]:
        encode_start = time.perf_counter()
        data = bitstream.encode(compressed)
        encode_s = time.perf_counter() - encode_start
        storage.write(artefact, data)
        return hashlib.sha256(data).hexdigest(), encode_s

    sha256, encode_s = processes.agreed(written)
    measured = scorer.score(Wanted(str(artefact), str(notes), processes.rank(), processes.count()))
    if measured.sha256 != sha256:
        msg = f"{artefact} is not the file that was written: is another process writing there?"
        raise RateBenchError(msg)
    correct, total = processes.total(torch.tensor([measured.correct, measured.total], device=device())).tolist()
    measured = msgspec.structs.replace(measured, correct=correct, total=total)
    if processes.rank() == 0:
        wall_s = time.perf_counter() - start
        record.write(path, _record(cell, index, compressed, measured, reference_bytes, encode_s, wall_s))
    processes.wait()


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


def _in_worker(cell: Cell, results: Path, threads: int, fresh: bool) -> tuple[Outcome, list[str]]:
    torch.set_num_threads(threads)
    memory.keep()
    said: list[str] = []
    with Scorer(cell.task, cell.network, device()) as scorer:
        outcome = execute(cell, results, said.append, scorer, fresh)
    return outcome, [line for line in said if " failed: " in line]


def _in_turn(cells: Sequence[Cell], results: Path, say: Say, fresh: bool) -> Iterator[tuple[Cell, Outcome]]:
    """One cell after the other; those of one network share the process that scores, but none with a failed cell."""
    left = list(cells)
    while left:
        place = (left[0].task, left[0].network)
        with Scorer(*place, device()) as scorer:
            outcome: Outcome = "complete"
            while left and (left[0].task, left[0].network) == place and outcome != "failed":
                cell = left.pop(0)
                outcome = execute(cell, results, say, scorer, fresh)
                yield cell, outcome


def run(
    cells: Sequence[Cell], results: Path, say: Say, jobs: int = 1, fresh: bool = False, address: str | None = None
) -> Iterator[tuple[Cell, Outcome]]:
    """Execute cells, `jobs` at a time with their share of the cores, or on a Ray cluster; yields each as it ends."""
    memory.keep()
    if address is not None:
        for cell, (outcome, said) in cluster.completed(cells, results, address, _in_worker, fresh):
            for line in said:
                say(line)
            yield cell, outcome
        return
    if jobs == 1:
        yield from _in_turn(cells, results, say, fresh)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    # An interruption is this process's to handle: it ends the workers.
    with ProcessPoolExecutor(jobs, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        pending = {pool.submit(_in_worker, cell, results, threads, fresh): cell for cell in cells}
        try:
            for future in as_completed(pending):
                outcome, said = future.result()
                for line in said:
                    say(line)
                yield pending[future], outcome
        except BrokenProcessPool as error:
            msg = "a worker process was killed (out of memory?): what is recorded is kept; run again with fewer --jobs"
            raise RateBenchError(msg) from error
        except BaseException:
            pool.shutdown(cancel_futures=True, wait=False)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
