"""The uncompressed network through the whole loop: fp32, then fp16. The shortest method there is, and the top of every plot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw
from methods.interface import Card, Compressed, Run, Task

CARD = Card(
    key="reference",
    title="The reference network, stored as it is",
    authors=(),
    venue="",
    year=2026,
    families=("storage",),
    fidelity="baseline",
)


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


def unsupported(task: Task, config: Config) -> str | None:
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """Two points: every tensor as fp32 (exact), then as fp16."""
    tensors = blueprint.state(task.reference())
    weights = [name for name, tensor in tensors.items() if tensor.ndim > 1]
    others = [name for name, tensor in tensors.items() if tensor.ndim < 2]
    for dtype in ("float32", "float16"):
        parts = (
            raw.part(weights, [tensors[n].detach().numpy() for n in weights], "weights", dtype),
            raw.part(others, [tensors[n].detach().numpy() for n in others], "norm_bias", dtype),
        )
        yield Compressed(task.architecture, task.arguments, parts, {"dtype": dtype})
