"""Hashes of what a result was measured with: the tensors of the reference network, and the items of the task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import tasks
from benchmarks.errors import TaskError
from benchmarks.fingerprint import json_hash
from methods.interface import Split, Task


def tensors_hash(tensors: Mapping[str, Any]) -> str:
    """Hash of named tensors: names, types, shapes and values, independent of their order and memory layout."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        if isinstance(tensor, Tensor):
            digest.update(f"{name!r} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def reference_hash(task: Task) -> str | None:
    """Hash of the tensors of a task's reference; None if it has none. Trains or fetches the reference if needed."""
    return tensors_hash(task.reference().state_dict()) if task.architecture else None


def split_hash(split: Split) -> str:
    """Hash of items and targets. Images on disk are not read: their names, sizes and targets count, in any order."""
    paths: Sequence[Path] | None = getattr(split.inputs, "_paths", None)  # of `data.images.Pictures`
    if paths is None:
        return tensors_hash({"inputs": split.inputs[:], "targets": split.targets})
    base = os.path.commonpath({path.parent for path in paths})
    names = (path.relative_to(base).as_posix() for path in paths)
    sizes = (path.stat().st_size for path in paths)
    return f"sha256:{json_hash(sorted(zip(names, sizes, split.targets.tolist(), strict=True)))}"


def items_hash(task: Task, test: tasks.Test) -> str:
    """Hash of the items for training, validation and scoring, as the task gives them.

    Items that a task does not have (it raises TaskError) count as missing. A test without `split` counts by its example.
    """

    def example() -> Split:
        return Split(test.example, torch.tensor([test.items]))

    parts: dict[str, Callable[[], Split]] = {
        "train": lambda: task.train,
        "validation": lambda: task.validation,
        "test": getattr(test, "split", example),
    }
    return f"sha256:{json_hash({name: _of(part) for name, part in parts.items()})}"


def _of(part: Callable[[], Split]) -> str | None:
    try:
        return split_hash(part())
    except TaskError:
        return None
