"""Structured pruning of ResNet-56: gradient matrices, the whole loop, and the latency of narrower and factorised networks.

    pytest benchmarks/perf/test_structured.py -s

Weights are random except for BatchNorm's statistics if times do not depend on them. Images have CIFAR-10's size.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import networks, tasks
from benchmarks.errors import RateBenchError
from benchmarks.evaluation import measure
from benchmarks.perf.test_training import Unkept
from methods import hierarchical
from methods.families.lowrank import groups as stages
from methods.families.slim import Slim
from methods.families.structured import Prunable, allocation, analyse, filters
from methods.hierarchical import gradients
from methods.interface import Budget, Split
from methods.jsvd.shares import factors, shares, structure

BATCHES, SIZE = 64, 32


@functools.cache
def task(depth: int = 56) -> Any:
    """A task with random images, as far as the loop needs it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = networks.build("cifar_resnet", {"depth": depth}).eval()
        images = torch.randint(256, (BATCHES * SIZE, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.randint(10, (len(images),), generator=torch.Generator().manual_seed(0)))
    made = SimpleNamespace(
        network=f"resnet{depth}",
        architecture="cifar_resnet",
        arguments={"depth": depth},
        prepare=lambda inputs: (inputs.float() / 255 - 0.5) / 0.25,
        train=split,
        validation=split,
        reference=lambda: copy.deepcopy(network),
        calibration=lambda n: Split(images[:n], split.targets[:n]),
        loss=nn.functional.cross_entropy,
    )
    network.train()(made.prepare(images[:128]))  # BatchNorm's statistics
    network.eval()
    return made


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_gradient_matrices() -> None:
    """One pass of 64 micro-batches of 32, against only the forward and backward passes."""
    prunable, network = analyse(task()), task().reference()

    def bare() -> None:
        for images, labels in gradients.micro_batches(task(), Unkept(), BATCHES, SIZE):
            task().loss(network(images), labels).backward()
        network.zero_grad()

    def ours() -> None:
        gradients.grams(network, prunable.groups, task(), Unkept(), BATCHES, SIZE, "drawn")

    bare()
    alone, whole = seconds(bare), seconds(ours)
    print(f"\ngradient matrices of ResNet-56: {whole:.1f} s, {whole / alone:.2f} times forward and backward alone")


class Kept(Unkept):
    """A run that keeps checkpoints in memory and trains nothing."""

    budget = Budget("post-training", 0.0)

    def __init__(self) -> None:
        self.saved: dict[str, Any] = {}

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None:
        self.saved[stage] = state

    def restore(self, stage: str) -> Any:
        return self.saved.get(stage)


def test_the_whole_loop() -> None:
    """Of the trained network, to 30, 50 and 70 % of the MACs removed, without retraining, each from the dense network."""
    try:
        trained = tasks.load("cifar10", "resnet56")
        trained.reference()
    except RateBenchError as error:
        pytest.skip(str(error))
    print()
    for point in hierarchical.compress(trained, hierarchical.Config(), Kept()):
        notes = point.notes
        took = f"{notes['seconds']} s, {notes['steps']} steps, {notes['undone']} undone"
        print(f"{point.point['removed']:.0%} of ResNet-56's MACs: {took}")


def half(prunable: Prunable) -> nn.Module:
    network = task().reference()
    keep = allocation.same_share(
        prunable, prunable.all_kept(), prunable.goal(0.5), lambda group: filters(network, group).norm(dim=1)
    )
    return prunable.narrow(network, keep)[0]


def test_latency() -> None:
    """Dense, half of the MACs removed by channels, and low-rank factors, one after the other."""
    example = task().prepare(task().train.inputs[:1])
    dense = task().reference()
    variants = {
        "dense": dense,
        "half of the MACs": half(analyse(task())),
        "half, by streams": half(analyse(task(), "streams")),
    }
    for scheme in ("separate", "ljsvd", "bijsvd"):
        found = shares(stages(dense), scheme, 0.5, 0.5)  # type: ignore[arg-type]
        variants[f"factors, {scheme}, rate 0.5"] = Slim(*structure(found), factors(found, 10)).realise(task(), dense)
    print()
    for batch in (1, 128):
        alone = measure.latency_ms(dense, example, batch, 2.0)
        for name, network in variants.items():
            found_ms = measure.latency_ms(network.eval(), example, batch, 2.0)
            share = measure.macs(network, example) / measure.macs(dense, example)
            print(f"batch {batch}: {name}: {share:.0%} of the MACs, {found_ms:.2f} ms, {found_ms / alone:.2f} of dense")
