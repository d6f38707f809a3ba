"""Runs many cells, one by one, in parallel or on a cluster; idempotent and resumable."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from benchmarks.errors import RateBenchError
from benchmarks.evaluation import memory
from benchmarks.evaluation.scorer import Scorer
from benchmarks.running import cluster
from benchmarks.running.cell import Cell
from benchmarks.running.environment import device
from benchmarks.running.execute import Outcome, execute
from benchmarks.running.lent import Say


def _begin_worker() -> None:
    """The parent handles an interruption and ends its workers; if the parent was killed, they end by themselves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_task(cell: Cell, results: Path, threads: int, fresh: bool) -> tuple[Outcome, list[str]]:
    """Execute one cell on a cluster's node; returns its outcome and the lines about failures."""
    torch.set_num_threads(threads)  # the scorer takes over this number
    with Scorer(cell.task, cell.network, device()) as scorer:
        return _executed(cell, results, fresh, scorer)


_kept: dict[tuple[str, str], Scorer] = {}  # at most one


def _in_worker(cell: Cell, results: Path, threads: int, fresh: bool) -> tuple[Outcome, list[str]]:
    """`_in_task` in a process of a pool: its cells of one network share a scorer, which is replaced after a failed cell."""
    torch.set_num_threads(threads)  # the scorer takes over this number
    place = (cell.task, cell.network)
    if place not in _kept:
        for other in _kept.values():
            other.end()
        _kept.clear()
        _kept[place] = Scorer(*place, device())
    outcome, said = _executed(cell, results, fresh, _kept[place])
    if outcome == "failed":
        _kept.pop(place).end()
    return outcome, said


def _executed(cell: Cell, results: Path, fresh: bool, scorer: Scorer) -> tuple[Outcome, list[str]]:
    memory.keep()
    said: list[str] = []
    outcome = execute(cell, results, said.append, scorer, fresh)
    return outcome, [line for line in said if " failed: " in line]


def _in_turn(cells: Sequence[Cell], results: Path, say: Say, fresh: bool) -> Iterator[tuple[Cell, Outcome]]:
    """One cell after the other; cells of one network share a scoring process, which is replaced after a failed cell."""
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
    """Execute cells, `jobs` at a time with an equal share of the cores, or on a Ray cluster; yields each as it ends."""
    memory.keep()
    if address is not None:
        for cell, (outcome, said) in cluster.completed(cells, results, address, _in_task, fresh):
            for line in said:
                say(line)
            yield cell, outcome
        return
    if jobs == 1:
        yield from _in_turn(cells, results, say, fresh)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin_worker) as pool:
        pending = {pool.submit(_in_worker, cell, results, threads, fresh): cell for cell in cells}
        try:
            for future in as_completed(pending):
                outcome, said = future.result()
                for line in said:
                    say(line)
                yield pending[future], outcome
        except BrokenProcessPool as error:
            msg = "a worker process was killed (out of memory?): finished records are kept; run again with fewer --jobs"
            raise RateBenchError(msg) from error
        except BaseException:
            pool.shutdown(cancel_futures=True, wait=False)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
