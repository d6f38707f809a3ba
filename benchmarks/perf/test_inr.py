"""Fitting sine networks to pictures, and what their integers cost: against the plain way, in one run.

`PASSES=800 pytest benchmarks/perf/test_inr.py -k pixels -s` compares shares of the pixels at the cost of a longer fit.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import methods
from benchmarks import networks, tasks
from benchmarks.bitstream import integers
from benchmarks.errors import TaskError
from benchmarks.evaluation.scoring import total_score
from benchmarks.seeds import generator
from benchmarks.training import fitting
from benchmarks.training.fitting import Fit
from methods.interface import Budget

COUNT, SHARE, STEPS = 12, 1 / 64, 30
SHARES = (1.0, 1 / 4, 1 / 16, 1 / 64)
PASSES = float(os.environ.get("PASSES", "16"))  # over all pixels


class Bare:
    """A run without checkpoints."""

    seed, device, budget = 0, torch.device("cpu"), Budget("post-training", 0.0)

    def generator(self, *names: str | int) -> torch.Generator:
        return generator("perf", *names)

    def checkpoint(self, stage: str, state: Mapping[str, Any]) -> None: ...

    def restore(self, stage: str) -> None: ...

    def progress(self, message: str) -> None: ...


def photographs(count: int) -> list[Any]:
    """Tasks of pictures of 768 × 512 pixels."""
    names = [name for name in tasks.get("kodak").NETWORKS if "_" not in name]
    found: Any = [tasks.load("kodak", name) for name in names]
    try:
        return [task for task in found if task.size == (512, 768) and task.train][:count]
    except TaskError as error:
        pytest.skip(str(error))


def fitted(chosen: list[Any], recipe: Fit) -> list[nn.Module]:
    made = [networks.build(task.architecture, task.arguments) for task in chosen]
    colours = torch.cat([task.train.targets for task in chosen])
    states = fitting.fitted(made, chosen[0].train.inputs[0], colours, recipe, Bare())
    for network, state in zip(made, states, strict=True):
        network.load_state_dict(state)
    return made


def test_stacked_against_one_at_a_time() -> None:
    chosen = photographs(COUNT)
    recipe = Fit(STEPS, share=SHARE)
    fitted(chosen, recipe)
    begin = time.perf_counter()
    fitted(chosen, recipe)
    stacked = time.perf_counter() - begin
    begin = time.perf_counter()
    for task in chosen:
        fitted([task], recipe)
    alone = time.perf_counter() - begin
    each = stacked / STEPS / COUNT
    print(f"\n{COUNT} pictures, {SHARE:.1%} of the pixels a step: {each * 1e3:.2f} ms for each;", end=" ")
    print(f"one at a time {alone / stacked:.2f} times that")


def test_shares_of_the_pixels_at_equal_cost() -> None:
    chosen = photographs(1)
    (start,) = (networks.build(task.architecture, task.arguments) for task in chosen)
    print(f"\n{chosen[0].network}, {PASSES:g} passes over the pixels:", end=" ")
    for share in SHARES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(networks, "build", lambda *_: copy.deepcopy(start))
            begin = time.perf_counter()
            (network,) = fitted(chosen, Fit(round(PASSES / share), share=share))
            seconds = time.perf_counter() - begin
        score = total_score(network, chosen[0].train, chosen[0])
        print(f"share {share:.3g}: {score:.2f} dB in {seconds:.0f} s;", end=" ")
    print()


def official(codes: list[np.ndarray[Any, Any]], bits: int) -> float:
    """Bytes of the official format: a table of counts, an arithmetic code of exact frequencies, and steps as fp64.

    Brotli, which compresses the steps there, is left out: it finds nothing in ten numbers.
    """
    counts = np.bincount(np.concatenate([c.reshape(-1) for c in codes]) + 2 ** (bits - 1), minlength=2**bits)
    used = counts[counts > 0]
    table = 8 + 2**bits * (int(np.floor(np.log2(counts.max()))) + 1)
    return (table + np.ceil((used * np.log2(counts.sum() / used)).sum()) + 32) / 8 + 8 * len(codes)


def test_entropy_coder_against_the_official_static_table() -> None:
    method = methods.get("inr")
    for name in ("china", "flower"):
        config = method.Config(iterations=20, steps=0)
        task = tasks.load("thumbnails", name)
        for point in method.compress(task, config, Bare()):
            (part,) = point.parts
            codes, bits = part.data["codes"], int(str(point.point["bits"]))
            codes[-1] = codes[-1].clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)  # a grid without negative values
            ours = len(integers.shorter(codes, integers.encode_static(codes))[1]) + 4 * len(codes)
            print(f"\n{name}, {bits} bit: {ours} bytes, {ours / official(codes, bits):.3f} times the official", end="")
    print()
