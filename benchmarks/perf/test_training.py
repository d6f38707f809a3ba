"""Evaluation and training of ResNet-20 against bare network passes in the same run: the overhead of the loop.

The bare passes use preprocessed batches in memory. No loop can be faster, so a ratio below 1 is noise.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import seeds, storage, tasks
from benchmarks.evaluation.scoring import BATCHES, total_score
from benchmarks.training import Recipe, fit
from benchmarks.training.loop import bf16_is_fast
from methods.interface import Budget, Task

pytestmark = pytest.mark.mirror
CPU = torch.device("cpu")
STEPS, ROUNDS = 30, 3  # the median of three ignores the first, a warm-up


class Unkept:
    """A run without checkpoints, to time only the loop."""

    seed, device, budget = 0, CPU, Budget("paper", None)

    def generator(self, *names: str | int) -> torch.Generator:
        return seeds.generator(self.seed, *names)

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        pass

    def restore(self, stage: str) -> None:
        return None

    def progress(self, message: str) -> None:
        pass


@pytest.fixture(scope="module")
def task() -> Task:
    if not os.environ.get("RATEBENCH_MIRROR") and not (storage.cache_folder() / "cifar-10-batches-py").is_dir():
        pytest.skip("needs the real CIFAR-10: set RATEBENCH_MIRROR or run `ratebench fetch cifar10 -n resnet20`")
    return tasks.load("cifar10", "resnet20")


def in_turns(benchmark: Any, ours: Callable[[], object], bare: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of both, run alternately so that other load slows both equally; the plugin times `ours`."""
    times: list[float] = []

    def timed_bare() -> None:
        start = time.perf_counter()
        bare()
        times.append(time.perf_counter() - start)

    benchmark.pedantic(ours, setup=timed_bare, rounds=ROUNDS, iterations=1)
    return benchmark.stats.stats.median, statistics.median(times)


def report(capsys: pytest.CaptureFixture[str], what: str, ours: float, bare: float) -> None:
    with capsys.disabled():
        print(f"\n{what}, {torch.get_num_threads()} threads: {ours:.2f} s, bare {bare:.2f} s, ratio {ours / bare:.3f}")


def test_evaluation(benchmark: Any, capsys: pytest.CaptureFixture[str], task: Task) -> None:
    split = tasks.get("cifar10").test_split()
    network = task.reference().to(memory_format=torch.channels_last)
    batches = [task.prepare(images) for images in split.inputs.split(BATCHES["cpu"])]

    @torch.inference_mode()
    def bare() -> None:
        for batch in batches:
            network(batch)

    times = in_turns(benchmark, lambda: total_score(network, split, task), bare)
    report(capsys, f"evaluation on {len(split):,} images", *times)


def test_training_epoch(benchmark: Any, capsys: pytest.CaptureFixture[str], task: Task) -> None:
    recipe = Recipe(STEPS / math.ceil(len(task.train) / Recipe.batch), 0.01)
    trained, bare_network = task.reference(), task.reference().to(memory_format=torch.channels_last).train()
    images: Tensor = task.prepare(task.train.inputs[: recipe.batch])
    labels = task.train.targets[: recipe.batch]
    optimiser = recipe.optimiser([{"params": list(bare_network.parameters()), "lr": recipe.lr}])

    def bare() -> None:
        for _ in range(STEPS):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast(CPU)):
                outputs = bare_network(images)
            loss = nn.functional.cross_entropy(outputs.float(), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    times = in_turns(benchmark, lambda: fit(trained, task, Unkept(), recipe, "epoch"), bare)
    report(capsys, f"{STEPS} training steps of {recipe.batch} images", *times)
