"""For regression: the reference in fp32, then with the second layer scaled down, in fp16; with a budget, trained first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import raw
from benchmarks.training import Recipe, fit
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card(
    "shrunk",
    "Smaller outputs",
    ("N. Body",),
    "Nowhere",
    2026,
    ("storage",),
    "paper",
    ("post-training", "short"),
    kinds=("regression",),
)


@dataclass(frozen=True)
class Config:
    """`by` is what the second layer is multiplied by at the second point."""

    by: float = 0.75

    def operating_points(self, budget: Budget) -> list[float]:
        return [budget.epochs or 0.0, 0.0]


def unsupported(task: Task, config: Config) -> str | None:
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    network = task.reference()
    if run.budget.epochs:
        fit(network, task, run, Recipe(run.budget.epochs, 0.01, batch=50), "train")
    tensors = {name: tensor.detach() for name, tensor in blueprint.state(network).items()}
    for point, dtype in ((1.0, "float32"), (config.by, "float16")):
        data = [(tensor * (point if name.startswith("2.") else 1.0)).numpy() for name, tensor in tensors.items()]
        part = raw.part(list(tensors), data, "weights", dtype)
        yield Compressed(task.architecture, task.arguments, (part,), {"dtype": dtype}, notes={"scale": point})
