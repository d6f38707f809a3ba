"""Joint decompositions of a whole ResNet-34, and Gram matrices against the full SVD of the stack in the same run.

    pytest benchmarks/perf/test_lowrank.py -s

The official code calls numpy's SVD with `full_matrices`, which also computes unused left vectors of the tall matrix.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import networks
from methods.families.lowrank import groups
from methods.jsvd import schemes
from methods.jsvd.shares import factors, shares

RATE = 0.08
BLOCKS = {2: 4, 3: 6, 4: 3}  # stage: blocks


@functools.cache
def resnet34() -> nn.Module:
    """CIFAR ResNet-34 with random weights; the time does not depend on them."""
    torch.manual_seed(0)
    return networks.build("resnet", {"depth": 34, "classes": 10, "stem": "cifar"})


@pytest.mark.parametrize("scheme", ["separate", "ljsvd", "rjsvd1", "rjsvd2", "bijsvd"])
def test_decompose_resnet34(scheme: Any, benchmark: Any) -> None:
    found = shares(groups(resnet34()), scheme, RATE, 0.5)
    tensors = benchmark.pedantic(lambda: factors(found, 30), rounds=2)
    assert {name.rpartition(".conv")[0] for name in tensors} == {
        f"layer{n}.{b}" for n, k in BLOCKS.items() for b in range(k)
    }


def test_gram_against_the_full_svd() -> None:
    """Six layers of 256 channels: one group of stage 3, at the rank of rate 0.08."""
    stack = torch.randn(6, 768, 768, generator=torch.Generator().manual_seed(0))
    matrices, rank = list(stack), 35
    schemes.right_shared(matrices, rank, "warm-up")
    start = time.perf_counter()
    lefts, right = schemes.right_shared(matrices, rank, "stage 3")
    fast_s = time.perf_counter() - start
    tall = torch.cat(matrices).numpy()
    start = time.perf_counter()
    _, s, _ = np.linalg.svd(tall, full_matrices=True)
    slow_s = time.perf_counter() - start
    best = float(np.square(s[rank:]).sum())
    error = sum(float((m.double() - left @ right).square().sum()) for m, left in zip(matrices, lefts, strict=True))
    print(
        f"\nRJSVD of 6 × 768², rank {rank}: Gram {fast_s:.3f} s, full SVD {slow_s:.2f} s, {slow_s / fast_s:.0f} times faster"
    )
    assert error == pytest.approx(best, rel=1e-4)
