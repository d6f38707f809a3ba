"""Test items in shards: the scores of each shard are stored, so that they are not computed again after a kill."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import storage
from benchmarks.errors import DamagedFile, MethodError
from benchmarks.evaluation.metrics import NOTHING, Sums, sums
from benchmarks.evaluation.scoring import BATCHES
from benchmarks.tasks import Test
from benchmarks.training.layout import device_of
from methods.interface import Metric

SHARD = 4  # batches


def shards(items: int, device: torch.device) -> list[range]:
    """All test items, in whole batches."""
    size = SHARD * BATCHES[device.type]
    return [range(start, min(start + size, items)) for start in range(0, items, size)]


def scored(network: nn.Module, test: Test, first: int, of: int, notes: Path | None, artefact: str) -> dict[str, Sums]:
    """The sums of every `of`-th shard, starting at `first`, by metric; values are stored in the folder `notes`, if given.

    `artefact` is the hash of the file: values of another file are not used. Raises MethodError for values that can't be
    averaged.
    """
    found: dict[str, Sums] = {}
    for shard in shards(test.items, device_of(network))[first::of]:
        note = None if notes is None else _note(notes, artefact, shard)
        values = None if note is None else _noted(note, shard)
        if values is None:
            values = {name: _checked(name, own, shard) for name, own in test.scores(network, shard).items()}
            if note is not None:
                storage.save_tensors(note, values)
        for name, own in values.items():
            found[name] = found.get(name, NOTHING) + sums(own)
    return found


def _checked(name: str, values: Tensor, shard: range) -> Tensor:
    if values.shape != (len(shard),):
        msg = f"the task gives {name} the shape {tuple(values.shape)} for {len(shard)} test items: give one value per item"
        raise MethodError(msg)
    if not values.isfinite().all():
        bad = int((~values.isfinite()).sum())
        msg = f"{name} is infinite or NaN for {bad} of the test items {shard.start} to {shard.stop - 1}: it can't be averaged"
        raise MethodError(msg)
    return values


def noted_items(notes: Path, artefact: str, metric: Metric, items: int, device: torch.device) -> Tensor:
    """The metric's value of every test item (items,), from the stored values of all shards.

    Raises DamagedFile if a shard is missing.
    """
    found = []
    for shard in shards(items, device):
        note = _note(notes, artefact, shard)
        values = _noted(note, shard)
        if values is None:
            msg = f"{note} does not hold the scores that were just written: run again to compute them"
            raise DamagedFile(msg)
        found.append(values[metric.name])
    return torch.cat(found)


def _note(notes: Path, artefact: str, shard: range) -> Path:
    return notes / f"{artefact[:16]}-{shard.start}-{shard.stop}.pt"


def _noted(note: Path, shard: range) -> dict[str, Tensor] | None:
    """The stored values of a shard; None if there are none or the file is damaged, so that they are computed again."""
    try:
        values = storage.load_own(note, "it is written again") if note.exists() else {}
    except DamagedFile:
        return None
    return values if values and all(own.shape == (len(shard),) for own in values.values()) else None
