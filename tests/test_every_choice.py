"""Each choice that a method's settings offer, on the embedded digits: a branch that no default reaches is run here.

The common tests (`test_every_method`) run each method with its defaults. Here, one setting at a time has another of its
choices (`Literal`, or a truth value). Training is left out: only callbacks see the steps.
"""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, Literal

import pytest
import test_every_method as kit
import torch

import methods
from benchmarks import bitstream, tasks
from methods.interface import Task

TRAINED = {
    ("hierarchical", "drawn"),
    ("itpruner", "structure"),
    ("jsvd", "start"),
    ("svd", "start"),
    ("tucker", "start"),
}  # need labels or training
WITH: dict[tuple[str, str], dict[str, Any]] = {  # a setting on which a choice depends
    ("aq", "keep"): {"pruned": 0.5},
    ("tensor_reordering", "schedule"): {"points": ((4, 1.5), (8, 4.0))},
}
SAME = {  # choices that may give the same files here
    ("hierarchical", "rank"): "it decides about an estimate, which is a note",
    ("sbs", "variant"): "filters close after bits in a network that is not trained",
    ("sparse_opt", "solver"): "it acts on weights that change",
    ("funnel", "variant"): "it acts on gates that change",
    ("cc", "forward"): "the order of removals of a small network can be the same",
    ("itpruner", "solve"): "the projection is what the published solve amounts to",
    ("itpruner", "normalised"): "the published solve hardly depends on data",
    **dict.fromkeys([("psap", name) for name in ("schedule", "mode", "statistic")], "it acts on weights that change"),
}


def choices(kind: Any) -> list[Any]:
    """All values of a Literal or of bool, also where it has a name; nothing for other types."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if kind is bool:
        return [False, True]
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return [value for one in typing.get_args(kind) for value in choices(one)]
    return list(typing.get_args(kind)) if typing.get_origin(kind) is Literal else []


def all_choices() -> Iterator[Any]:
    for key in methods.names():
        kind = methods.get(key).Config
        types_of, default = typing.get_type_hints(kind, include_extras=True), kind()
        for field in fields(kind):
            for value in choices(types_of[field.name]):
                if value != getattr(default, field.name):
                    yield pytest.param(key, field.name, value, id=f"{key}-{field.name}-{value}")


def task_for(key: str, name: str) -> Task:
    """The network of the common tests or, where a choice is about residual streams, one that has some."""
    return tasks.load("digits", "digits_resnet") if name == "where" else kit.task_for(key)


def files(key: str, name: str, config: Any) -> list[bytes]:
    run = kit.MemoryRun(kit.SHORT if (key, name) in TRAINED else kit.budget_of(key))
    with kit.counted_training(fake=True):
        made = [bitstream.encode(point) for point in methods.get(key).compress(task_for(key, name), config, run)]
    assert len(made) == len(config.operating_points(run.budget))
    return made


@pytest.mark.parametrize(("key", "name", "value"), list(all_choices()))
def test_every_choice_gives_files_that_decode(key: str, name: str, value: Any) -> None:
    default = replace(kit.config_of(key), **WITH.get((key, name), {}))
    try:
        config = replace(default, **{name: value})
    except ValueError as error:
        assert name in str(error)  # not with the other settings
        return
    if reason := methods.get(key).unsupported(task_for(key, name), config):
        pytest.skip(reason)
    task, made = task_for(key, name), files(key, name, config)
    x = task.prepare(task.validation.inputs[:8])
    assert all(len(later) < len(earlier) for earlier, later in itertools.pairwise(made))
    for data in made:
        with torch.no_grad():
            assert torch.isfinite(bitstream.decode(data)(x)).all()
    if (key, name) not in SAME:
        assert made != files(key, name, default), "a choice that changes nothing is no choice"
