"""SuRP's hot paths: a VGG-16-sized pass and file in both modes, and the fast pass against an O(n) step.

    pytest benchmarks/perf/test_surp.py -s

The naive loop is timed in the same run, on a source of the size of ResNet-20: the printed ratio is comparable between machines.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import pytest

from methods.interface import Coded, Part
from methods.surp import CODECS, rounds, sequential
from methods.surp.source import Floats, Source, normalise
from methods.surp.visiting import orders, smallest_prime

VGG16 = 14_728_266  # parameters of the CIFAR VGG-16
SPARSITY = 0.99
RESNET20 = (272_474, 0.95)  # weights, sparsity


@functools.cache
def vgg_source() -> Source:
    return normalise([np.random.default_rng(0).laplace(size=VGG16)])


def part(mode: str) -> Part:
    source = vgg_source()
    if mode == "sequential":
        walk = sequential.select(source.u, (SPARSITY,), 0, 13.0)
        return sequential.part(["weight"], source, [VGG16], walk, walk.marks[0])
    passed = rounds.select(source.u, (SPARSITY,), 13.0)
    return rounds.part(["weight"], source, [VGG16], passed, passed.marks[0])


@functools.cache
def vgg_file(mode: str) -> Coded:
    return CODECS[mode].encode(part(mode))


@pytest.mark.parametrize("mode", CODECS)
def test_encode_vgg16(mode: str, benchmark: Any) -> None:
    vgg_source()
    coded = benchmark.pedantic(lambda: CODECS[mode].encode(part(mode)), rounds=2)
    benchmark.extra_info["bits per weight"] = 8 * sum(len(stream) for _, stream in coded.streams) / VGG16


@pytest.mark.parametrize("mode", CODECS)
def test_decode_vgg16(mode: str, benchmark: Any) -> None:
    coded = vgg_file(mode)
    streams = [stream for _, stream in coded.streams]
    (array,) = benchmark.pedantic(lambda: CODECS[mode].decode(coded.meta, streams, [(VGG16,)]), rounds=2)
    assert np.count_nonzero(array) == round((1 - SPARSITY) * VGG16 + 0.5)


def naive(u: Floats, non_zeros: int, alpha: float) -> list[int]:
    """The same coordinates by a comparison of all residuals in each step."""
    n, prime = len(u), smallest_prime(len(u))
    multipliers, offsets, _ = orders(0, prime, 2 * non_zeros)
    residual, mu = u.copy(), float(np.float32(u.mean()))
    chosen: list[int] = []
    touched: set[int] = set()
    while len(touched) < non_zeros:
        candidates = np.flatnonzero(residual > alpha * mu)
        if not len(candidates):
            alpha *= 0.9
            continue
        step = len(chosen)
        best = int(candidates[((candidates * multipliers[step] + offsets[step]) % prime).argmin()])
        residual[best] -= alpha * mu
        mu *= 1 - alpha / n
        chosen.append(best)
        touched.add(best)
    return chosen


def test_fast_pass_against_the_naive_loop(benchmark: Any) -> None:
    n, sparsity = RESNET20
    u = np.random.default_rng(0).exponential(size=n)
    start = time.perf_counter()
    slow = naive(u, round((1 - sparsity) * n), 10.0)
    slow_seconds = time.perf_counter() - start
    fast = benchmark.pedantic(lambda: sequential.select(u, (sparsity,), 0, 10.0), rounds=5)
    assert fast.coordinates.tolist() == slow
    ratio = slow_seconds / benchmark.stats.stats.median
    benchmark.extra_info["times faster than naive"] = ratio
    print(f"\nSuRP, {n} weights, {len(slow)} steps: {ratio:.1f} times faster than the naive loop")
