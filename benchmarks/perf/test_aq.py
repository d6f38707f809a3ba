"""Additive quantisation: distortion at equal time against faiss's local search quantiser, and a ResNet-50-sized set of vectors.

    pytest benchmarks/perf/test_aq.py -s

Vectors are heavy-tailed random numbers with correlated dimensions, as scaled weights are.
"""

from __future__ import annotations

import functools
import resource
import time

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.codebooks import means
from methods.aq import quantizer
from methods.aq.quantizer import Search

RESNET56, RESNET50 = 106_000, 3_190_000  # vectors of 8 weights
D = 8


@functools.cache
def vectors(n: int) -> npt.NDArray[np.float32]:
    generator = np.random.default_rng(0)
    mixing = (np.eye(D) + 0.15 * generator.standard_normal((D, D))).astype(np.float32)
    found: npt.NDArray[np.float32] = generator.laplace(size=(n, D)).astype(np.float32) @ mixing
    return found


def test_distortion_against_faiss_at_equal_time() -> None:
    x = vectors(RESNET56)
    quantizer.fit(x[:3000], 2, 256, Search(iterations=1))  # compiles
    total = float(np.square(x, dtype=np.float64).sum())
    start = time.perf_counter()
    theirs = faiss.LocalSearchQuantizer(D, 2, 8)
    theirs.nperts = 2
    theirs.train(x)
    error = float(np.square(x - theirs.decode(theirs.compute_codes(x)), dtype=np.float64).sum())
    allowed = time.perf_counter() - start
    start, ours = time.perf_counter(), np.inf
    codebooks, codes = means.product(x, 2, 256)
    for made in quantizer.improved(x, codebooks, codes, Search()):
        if time.perf_counter() - start > allowed:
            break
        ours, needed = made.error, time.perf_counter() - start
    print(
        f"\n{len(x):,} vectors, M=2, K=256, relative error: faiss LSQ {error / total:.4f} in {allowed:.1f} s,", end=" "
    )
    print(f"ours {ours / total:.4f} in {needed:.1f} s")
    assert ours < error


def test_a_network_of_the_size_of_resnet50() -> None:
    x, search = vectors(RESNET50), Search(iterations=10, rounds=4, sweeps=3)
    quantizer.fit(x[:3000], 4, 256, Search(iterations=1))  # compiles
    start = time.perf_counter()
    codebooks, codes = means.residual(x, 4, 256)
    begun = time.perf_counter() - start
    start = time.perf_counter()
    made = list(quantizer.improved(x, codebooks, codes, search))
    took = time.perf_counter() - start
    total = float(np.square(x, dtype=np.float64).sum())
    print(
        f"\n{len(x):,} vectors, M=4, K=256: start {begun:.0f} s, {len(made)} iterations of 4 × 3 sweeps {took:.0f} s,",
        end=" ",
    )
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
    print(f"relative error {quantizer.error(x, codebooks, codes) / total:.4f} -> {made[-1].error / total:.4f}")
    assert made[-1].error < made[0].error

    start = time.perf_counter()
    quantizer.encode(x, made[-1].codebooks, made[-1].codes, search, 0)
    ours = (time.perf_counter() - start) / (search.rounds * search.sweeps)
    few = x[: len(x) // 20]
    peer = faiss.LocalSearchQuantizer(D, 4, 8)
    faiss.copy_array_to_vector(made[-1].codebooks.ravel(), peer.codebooks)
    peer.is_trained, peer.encode_ils_iters, peer.icm_iters = True, search.rounds, search.sweeps
    start = time.perf_counter()
    peer.compute_codes(few)
    theirs = (time.perf_counter() - start) / (search.rounds * search.sweeps) * len(x) / len(few)
    print(
        f"a sweep over all vectors: {ours:.2f} s, faiss {theirs:.2f} s (from a twentieth of them): {theirs / ours:.1f} times"
    )
