"""What a task gives to methods and to the suite, as hashes. Run as a script, it prints them for the code on PYTHONPATH."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import tasks
from benchmarks.errors import TaskError
from methods.interface import Split, Task

ITEMS = 16  # on which functions are compared


def values(name: str, network: str) -> dict[str, str]:
    """A hash of each value: settings, splits, calibration and test items, the reference, and functions on a few items.

    Something that the task does not have counts as its reason.
    """
    module, task = tasks.get(name), tasks.load(name, network)
    test, reference = module.test(network), task.reference()
    found: dict[str, Callable[[], Any]] = {
        "settings": lambda: dict(_settings(task)),
        "module": lambda: (module.METRICS, module.ITEMS, module.provenance(network)),
        "sizes": lambda: (task.uncompressed_bytes, task.reference_values),
        "reference": reference.state_dict,
        "training items": lambda: task.train,
        "validation items": lambda: task.validation,
        "calibration items": lambda: _applied(task, reference, task.calibration(ITEMS)),
        "loss and scores": lambda: _judged(task, reference),
        "test items": lambda: test.split() if hasattr(test, "split") else None,
        "test scores": lambda: (test.items, test.example, test.scores(reference, range(min(ITEMS, test.items)))),
    }
    return {key: hashlib.sha256(_text(value).encode()).hexdigest() for key, value in found.items()}


def _settings(task: Task) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(task):  # type: ignore[arg-type]
        if not callable(value := getattr(task, field.name)):
            yield field.name, value


@torch.no_grad()
def _applied(task: Task, reference: nn.Module, items: Split) -> list[Any]:
    prepared = task.prepare(items.inputs)
    return [items, prepared, reference(prepared)]


@torch.no_grad()
def _judged(task: Task, reference: nn.Module) -> list[Any]:
    items, targets = task.validation.inputs[:ITEMS], task.validation.targets[:ITEMS]
    outputs = reference(task.prepare(items))
    return [task.loss(outputs, targets), task.scores(outputs, targets)]


def _text(value: Callable[[], Any]) -> str:
    try:
        return repr(_plain(value()))
    except TaskError as error:
        return str(error)


def _plain(value: Any) -> Any:
    """What has the same text for equal values only: tensors by their bytes."""
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(data).hexdigest()
    if isinstance(value, Split):
        few = torch.arange(min(ITEMS, len(value)))  # inputs that are read from files are too many
        return _plain((value.inputs if isinstance(value.inputs, Tensor) else value.inputs[few], value.targets))
    if isinstance(value, Mapping):
        return sorted((name, _plain(inner)) for name, inner in value.items())
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    print(json.dumps(values(*sys.argv[1:])))
