"""Additive quantisation: distortion at equal time against faiss's local search quantiser, and a ResNet-50-sized set of vectors.

Run it by `pytest benchmarks/perf/test_aq.py -s`; trained weights come from the mirror or the cache.
"""

from __future__ import annotations

import resource
import time

import faiss
import numpy as np
import pytest
import torch

from benchmarks import tasks
from benchmarks.errors import RateBenchError
from methods.aq import quantizer, search_torch
from methods.aq.quantizer import Codes, Floats, Search
from methods.families.codebooks import collect, groups, means, stack, weights

D = 8
PER_LAYER = 5, 8  # codebooks and codewords per layer: more bytes than two codebooks of 256 for the whole network


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_distortion_on_trained_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        network = tasks.load("cifar10", name).reference()
    except RateBenchError as error:
        pytest.skip(str(error))
    layers = collect(weights(network), D, "layer")
    x = stack(layers)
    total = float(np.square(x, dtype=np.float64).sum())
    quantizer.learn(x[:3000], 2, 256, Search(iterations=1))  # compiles
    errors, allowed = {}, np.inf
    for changed in (1, 2):  # codes changed at random per round: at most the number of codebooks
        start = time.perf_counter()
        peer = faiss.LocalSearchQuantizer(D, 2, 8)
        peer.nperts = changed
        peer.train(x)
        decoded = peer.decode(peer.compute_codes(x))
        allowed = min(allowed, time.perf_counter() - start)
        errors[f"faiss LSQ, nperts {changed}"] = float(np.square(x - decoded, dtype=np.float64).sum())
    for title, begin in (("PQ", means.product), ("RVQ", means.residual)):
        errors[title] = quantizer.error(x, *begin(x, 2, 256))
    assert len(x) * 5 * 3 // 8 + 2 * D * len(layers) * 5 * 8 > len(x) * 2 + 2 * D * 2 * 256
    apart = [(own, quantizer.learn(own, *PER_LAYER, Search())) for own in map(stack, groups(layers, 0))]
    errors["per layer"] = sum(made.error for _, made in apart)
    ours, needed = within(x, allowed)
    monkeypatch.setattr(quantizer, "encode", in_torch)
    theirs, took = within(x, allowed)
    print(f"\n{name}, {len(x):,} vectors, relative errors: ours {ours / total:.4f} in {needed:.1f} s,", end=" ")
    print(f"with the search in torch {theirs / total:.4f} in {took:.1f} s (faiss: {allowed:.1f} s)")
    print(", ".join(f"{title} {error / total:.4f}" for title, error in errors.items()))
    assert all(max(ours, theirs) < error for error in errors.values())


def within(x: Floats, allowed: float) -> tuple[float, float]:
    """The error of the last iteration that ends within this many seconds, including initialisation, and its end time."""
    start, ours, needed = time.perf_counter(), np.inf, 0.0
    for made in quantizer.improved(x, *means.product(x, 2, 256), Search()):
        if time.perf_counter() - start > allowed:
            break
        ours, needed = made.error, time.perf_counter() - start
    return ours, needed


def in_torch(x: Floats, codebooks: Floats, codes: Codes, search: Search, seed: int, device: torch.device) -> Codes:
    tensors = (torch.from_numpy(a) for a in (x, codebooks, codes))
    found: Codes = search_torch.local_search(*tensors, search.rounds, search.sweeps, search.moves, seed).numpy()
    return found


def test_the_search_in_torch() -> None:
    """The search in torch on the available device against the compiled one, with equal settings and vectors."""
    x = np.random.default_rng(0).laplace(size=(100_000, D)).astype(np.float32)
    codebooks, codes = means.residual(x, 4, 256)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_device = [torch.from_numpy(a).to(device) for a in (x, codebooks, codes)]
    quantizer.encode(x[:3000], codebooks, codes[:3000], Search(), 0)  # compiles
    start = time.perf_counter()
    ours = quantizer.encode(x, codebooks, codes, Search(), 0)
    compiled, start = time.perf_counter() - start, time.perf_counter()
    found = search_torch.local_search(*on_device, Search.rounds, Search.sweeps, Search.moves, 0).cpu().numpy()
    took = time.perf_counter() - start
    before, after, theirs = (quantizer.error(x, codebooks, c) for c in (codes, ours, found))
    print(f"\n{len(x):,} vectors, M=4: torch on {device} {took:.1f} s, compiled {compiled:.1f} s;", end=" ")
    print(f"of the error they take {1 - theirs / before:.1%} and {1 - after / before:.1%}")


def test_a_network_of_the_size_of_resnet50() -> None:
    """3.19 million vectors of heavy-tailed random numbers with correlated dimensions, as scaled weights are."""
    generator = np.random.default_rng(0)
    mixing = (np.eye(D) + 0.15 * generator.standard_normal((D, D))).astype(np.float32)
    x = generator.laplace(size=(3_190_000, D)).astype(np.float32) @ mixing
    search = Search(iterations=10, rounds=4, sweeps=3)
    quantizer.learn(x[:3000], 4, 256, Search(iterations=1))  # compiles
    start = time.perf_counter()
    codebooks, codes = means.residual(x, 4, 256)
    begun = time.perf_counter() - start
    start = time.perf_counter()
    made = list(quantizer.improved(x, codebooks, codes, search))
    took = time.perf_counter() - start
    total = float(np.square(x, dtype=np.float64).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n{len(x):,} vectors, M=4, K=256: start {begun:.0f} s, {len(made)} iterations of 4 × up to 3 sweeps {took:.0f} s,"
    )
    print(f"peak {peak:.1f} GiB")
    assert peak < 6
    print(f"relative error {quantizer.error(x, codebooks, codes) / total:.4f} -> {made[-1].error / total:.4f}")
    assert made[-1].error < made[0].error

    start = time.perf_counter()
    quantizer.encode(x, made[-1].codebooks, made[-1].codes, search, 0)
    ours = time.perf_counter() - start
    few = x[: len(x) // 20]
    peer = faiss.LocalSearchQuantizer(D, 4, 8)
    faiss.copy_array_to_vector(made[-1].codebooks.ravel(), peer.codebooks)
    peer.is_trained, peer.encode_ils_iters, peer.icm_iters = True, search.rounds, search.sweeps
    start = time.perf_counter()
    peer.compute_codes(few)
    theirs = (time.perf_counter() - start) * len(x) / len(few)
    print(f"4 rounds of up to 3 sweeps over all vectors: {ours:.1f} s, {ours / 12:.2f} s a sweep at most")
    print(f"faiss (from a twentieth of them): {theirs:.1f} s, {theirs / ours:.1f} times as long")
