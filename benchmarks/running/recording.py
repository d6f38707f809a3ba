"""From the measurements of an operating point to its record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import torch

import methods
from benchmarks import records, tasks
from benchmarks.evaluation.measure import bits_per_value
from benchmarks.evaluation.messages import Measurement
from benchmarks.evaluation.metrics import Sums, interval
from benchmarks.records import Record
from benchmarks.running import environment
from benchmarks.running.cell import Cell
from benchmarks.training import processes
from methods.interface import Compressed, Metric


def record(
    cell: Cell,
    index: int,
    compressed: Compressed,
    measured: Measurement,
    validation: Sums | None,
    encode_s: float,
    wall_s: float,
    contents: Mapping[str, str],
) -> Record:
    """The record of operating point number `index` of a cell; times in seconds.

    `validation` are the sums of the first metric over the validation items, if the task has any.
    `contents` are hashes of the reference and the items that were used, for `Provenance.data`.
    """
    commit, dirty = environment.commit()
    task, metrics = tasks.load(cell.task, cell.network), tasks.get(cell.task).METRICS
    return Record(
        schema=records.SCHEMA,
        id=f"{cell.id}/p{index:02d}",
        suite=cell.suite,
        task=cell.task,
        network=cell.network,
        method=cell.method,
        fidelity=methods.get(cell.method).CARD.fidelity,
        config=cell.config,
        config_hash=cell.config_hash,
        budget=cell.budget.name,
        epochs=cell.budget.epochs,
        learning_rate=cell.budget.learning_rate,
        seed=cell.seed,
        index=index,
        point=dict(compressed.point),
        notes=dict(compressed.notes),
        rate=records.Rate(
            file_bytes=measured.file_bytes,
            by_role=measured.by_role,
            uncompressed_bytes=task.uncompressed_bytes,
            ratio=task.uncompressed_bytes / measured.file_bytes,
            bits_per_weight=bits_per_value(measured.file_bytes, task.reference_values),
        ),
        counted=records.Counted(elements=measured.elements, nonzero=measured.nonzero, macs=measured.macs),
        metrics={metric.name: _score(metric, measured.scores[metric.name]) for metric in metrics},
        validation=None if validation is None else _score(metrics[0], validation),
        speed=records.Speed(
            device=environment.gpu() or environment.cpu(),
            threads=torch.get_num_threads(),
            encode_s=encode_s,
            decode_s=measured.decode_s,
            latency_ms_batch1=measured.latency_ms_batch1,
            latency_ms_batch128=measured.latency_ms_batch128,
        ),
        wall_s=wall_s,
        provenance=records.Provenance(
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
            data={**tasks.get(cell.task).provenance(cell.network), **contents},
            artefact_sha256=measured.sha256,
        ),
    )


def _score(metric: Metric, sums: Sums) -> records.Score:
    low, high = interval(metric, sums)
    return records.Score(items=sums.items, total=sums.total, squares=sums.squares, value=sums.value, low=low, high=high)


def _command(cell: Cell) -> str:
    """The command that runs a cell again in the same way as this process."""
    setting = f"{processes.MICRO}={processes.micro()} " if processes.micro() else ""
    together = f"torchrun --nproc-per-node {processes.count()} --no-python " if processes.count() > 1 else ""
    return setting + together + cell.command
