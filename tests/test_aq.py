"""Additive quantisation: errors that only fall, codes that stay, gradients of all layers, and the sizes of the papers."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import test_every_method
import torch
from torch import nn

import benchmarks.data.vision  # noqa: F401  # makes torchvision importable
from benchmarks import tasks
from benchmarks.bitstream.codecs import codebook
from benchmarks.training import AdamW, Recipe, fit
from methods.aq import quantizer, search_torch
from methods.aq.quantizer import Search
from methods.aq.search import pair_terms
from methods.families import storage
from methods.families.codebooks import Book, collect, groups, means, stack, weights
from methods.families.codebooks.curve import described, shared_codewords
from methods.families.codebooks.training import Decoded
from methods.interface import Budget

QUICK = Search(iterations=4, rounds=3, sweeps=3)


def heavy_tailed(n: int = 1500, d: int = 8, seed: int = 0) -> np.ndarray[Any, Any]:
    """Vectors like scaled weights: Laplace values with some structure between dimensions."""
    generator = np.random.default_rng(seed)
    mixed = generator.laplace(size=(n, d)) @ (np.eye(d) + 0.3 * generator.standard_normal((d, d)))
    return mixed.astype(np.float32)


def errors_of(x: Any, words: Any, codes: Any) -> Any:
    return np.square(x - codebook.vectors(codes, words, "additive"), dtype=np.float64).sum(1)


def by_numba(x: Any, words: Any, codes: Any, search: Search, seed: int) -> Any:
    return quantizer.encode(x, words, codes, search, seed)


def by_torch(x: Any, words: Any, codes: Any, search: Search, seed: int) -> Any:
    tensors = (torch.from_numpy(a) for a in (x, words, codes))
    return search_torch.local_search(*tensors, search.rounds, search.sweeps, search.moves, seed).numpy()


both_searches = pytest.mark.parametrize("encode", [by_numba, by_torch])


@both_searches
@pytest.mark.parametrize(("books", "size"), [(1, 16), (2, 16), (4, 8)])
def test_local_search_never_raises_the_error_of_a_vector(books: int, size: int, encode: Any) -> None:
    x = heavy_tailed(700)
    words, codes = means.residual(x, books, size)
    before = errors_of(x, words, codes)
    for rounds in (0, 3):
        found = encode(x, words, codes, Search(rounds=rounds, sweeps=3), 1)
        assert (errors_of(x, words, found) <= before * (1 + 1e-5) + 1e-5).all()
        assert found.min() >= 0 and found.max() < size
    assert errors_of(x, words, found).sum() < before.sum() or books == 1


@both_searches
def test_one_codebook_is_the_nearest_codeword(encode: Any) -> None:
    x = heavy_tailed(500)
    words = heavy_tailed(32, seed=1)[None]
    found = encode(x, words, np.zeros((500, 1), np.int32), Search(rounds=0, sweeps=1), 0)
    nearest = np.square(x[:, None] - words[0][None]).sum(2).argmin(1)
    np.testing.assert_allclose(errors_of(x, words, found), np.square(x - words[0][nearest]).sum(1), rtol=1e-4)


THREADS = """
import hashlib, os
os.environ["NUMBA_NUM_THREADS"] = "2"
import numba
from test_aq import Search, heavy_tailed, means, quantizer
x = heavy_tailed(3000)
words, codes = means.residual(x, 3, 16)
for threads, seed in ((1, 5), (2, 5), (1, 6)):
    numba.set_num_threads(threads)
    found = quantizer.encode(x, words, codes, Search(rounds=3, sweeps=2), seed)
    print(hashlib.sha256(found.tobytes()).hexdigest())
"""


def test_search_is_the_same_for_any_number_of_threads_and_differs_with_the_seed(fresh_python: Any) -> None:
    one, two, other = fresh_python(THREADS).split()
    assert one == two != other


def test_the_search_in_torch_finds_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_torch, "CHUNK", 1000)
    x = heavy_tailed(3000)
    words, codes = means.residual(x, 3, 16)
    begin = errors_of(x, words, codes).sum()
    much = Search(rounds=32)
    ours, theirs = (begin - errors_of(x, words, e(x, words, codes, much, 0)).sum() for e in (by_numba, by_torch))
    assert theirs == pytest.approx(ours, rel=0.1) and theirs > 0.05 * begin


def test_terms_of_the_search_are_the_error() -> None:
    x, words = heavy_tailed(50), heavy_tailed(48, seed=1).reshape(3, 16, 8)
    norms, pairs = pair_terms(words)
    codes = np.random.default_rng(0).integers(0, 16, (50, 3)).astype(np.int32)
    for vector, (a, b, c) in zip(x, codes, strict=True):
        single = sum(norms[m, k] - 2 * vector @ words[m, k] for m, k in enumerate((a, b, c)))
        crossed = pairs[0, 1, b, a] + pairs[0, 2, c, a] + pairs[1, 2, c, b]
        direct = np.square(vector - words[0, a] - words[1, b] - words[2, c]).sum() - vector @ vector
        assert single + crossed == pytest.approx(direct, rel=1e-4, abs=1e-4)


def test_least_squares_codebooks_are_a_minimum() -> None:
    x = heavy_tailed(600)
    codes = np.random.default_rng(0).integers(0, 8, (600, 3)).astype(np.int32)
    words = quantizer.least_squares(x, codes, 8, 1e-9)
    hot = np.zeros((600, 24))
    hot[np.arange(600)[:, None], codes + np.arange(3) * 8] = 1
    best, *_ = np.linalg.lstsq(hot, x.astype(np.float64), rcond=None)
    assert quantizer.error(x, words, codes) == pytest.approx(np.square(x - hot @ best).sum(), rel=1e-5)


def test_errors_fall_with_every_iteration_and_beat_both_starts() -> None:
    x = heavy_tailed()
    for begin in (means.product, means.residual):
        words, codes = begin(x, 2, 32)
        made = list(quantizer.improved(x, words, codes, QUICK))
        found = [quantizer.error(x, words, codes), *(q.error for q in made)]
        assert all(later <= earlier * (1 + 1e-4) for earlier, later in itertools.pairwise(found))
        assert min(found) < 0.97 * found[0]


@pytest.mark.mirror
def test_trained_weights_err_least_with_codebooks_that_the_whole_network_shares() -> None:
    """ResNet-20: two books of 256 for all layers against their starts and against five of 8 a layer, which are more bytes."""
    layers = collect(weights(tasks.load("cifar10", "resnet20").reference()), 8, "layer")
    x = stack(layers)
    shared = quantizer.learn(x, 2, 256, Search(iterations=10))
    starts = [quantizer.error(x, *begin(x, 2, 256)) for begin in (means.product, means.residual)]
    apart = [quantizer.learn(stack(own), 5, 8, Search(iterations=10)) for own in groups(layers, 0)]
    values = shared.codebooks.size, sum(made.codebooks.size for made in apart)
    assert 2 * values[0] + len(x) * 2 * 8 // 8 < 2 * values[1] + len(x) * 5 * 3 // 8
    assert shared.error < min(*starts, sum(made.error for made in apart))


@pytest.mark.parametrize(("d", "begin"), [(2, means.product), (1, means.residual)])
def test_the_fit_is_the_best_iteration_from_its_start(d: int, begin: Any) -> None:
    """Two codebooks: vectors of two values are cut into pieces, vectors of one value can't be."""
    x = heavy_tailed(1000).reshape(-1, d)
    words, codes = begin(x, 2, 16)
    found = [quantizer.error(x, words, codes), *(q.error for q in quantizer.improved(x, words, codes, QUICK))]
    best = quantizer.learn(x, 2, 16, QUICK)
    assert best.error == min(found) == pytest.approx(quantizer.error(x, best.codebooks, best.codes))


def test_more_codebooks_and_codewords_err_less_and_longer_vectors_more() -> None:
    x = heavy_tailed(2000)

    def found(books: int, size: int, d: int = 8) -> float:
        return quantizer.learn(x.reshape(-1, d), books, size, QUICK).error

    assert found(1, 32) > found(2, 32) > found(3, 32) > found(4, 32)
    assert found(2, 8) > found(2, 16) > found(2, 64)
    assert found(2, 32, 4) < found(2, 32, 8) < found(2, 32, 16)


def test_product_codes_are_additive_codes_of_codewords_with_zeros() -> None:
    x = heavy_tailed()
    words, codes = means.product(x, 2, 32)
    for m, piece in enumerate((slice(0, 4), slice(4, 8))):
        own, alone = means.k_means(np.ascontiguousarray(x[:, piece]), 32)
        np.testing.assert_array_equal(words[m][:, piece], own)
        np.testing.assert_array_equal(codes[:, m], alone)
    assert not words[0][:, 4:].any() and not words[1][:, :4].any()


def test_enough_codewords_for_all_vectors_leave_no_error() -> None:
    x = heavy_tailed(60)
    assert quantizer.learn(x, 1, 60, QUICK).error <= 1e-6 * np.square(x).sum()


def test_weights_come_back_from_their_vectors() -> None:
    network = tasks.load("digits", "digits_resnet").reference()
    for scale in ("layer", "channel", "none"):
        for dimension in (1, 5, 8, 9):
            layers = collect(weights(network), dimension, scale)  # type: ignore[arg-type]
            for layer in layers:
                flat = layer.vectors.reshape(-1)
                back = codebook.tensor(flat, layer.shape, np.asarray(layer.scale), None)
                np.testing.assert_allclose(
                    back, dict(network.named_parameters())[layer.path].detach(), rtol=1e-6, atol=1e-8
                )
                assert not flat[int(np.prod(layer.shape)) :].any()


def test_groups_are_contiguous_and_complete() -> None:
    layers = collect(weights(tasks.load("digits", "digits_resnet").reference()), 8, "layer")
    for count in (0, 1, 2, 3):
        found = groups(layers, count)
        assert [layer for group in found for layer in group] == layers
        assert len(found) == (len(layers) if count == 0 else count)
    assert len(stack(layers)) == sum(len(layer.vectors) for layer in layers)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([1, 1], [[1], [1]]), ([1, 1, 2], [[1, 1], [2]]), ([3, 1, 1], [[3], [1, 1]]), ([2, 2, 2, 2], [[2, 2], [2, 2]])],
)
def test_groups_have_about_equal_numbers_of_vectors(sizes: list[int], expected: list[list[int]]) -> None:
    values = {str(n): np.arange(2.0 * size, dtype=np.float32) for n, size in enumerate(sizes)}
    found = groups(collect(values, 2, "layer"), 2)
    assert [[len(layer.vectors) for layer in group] for group in found] == expected


def test_shared_codewords_are_those_of_two_layers_or_more() -> None:
    first, second = (collect({name: np.arange(4.0, dtype=np.float32)}, 2, "layer")[0] for name in ("a", "b"))
    words = np.zeros((1, 8, 2), np.float32)

    def book(layers: Any, codes: list[int]) -> Book:
        return Book(layers, words, np.array(codes, np.int32)[:, None])

    assert shared_codewords([book([first, second], [0, 1, 1, 2])]) == pytest.approx(1 / 3)  # two vectors a layer
    assert shared_codewords([book([first, second], [0, 1, 1, 0])]) == 1
    assert shared_codewords([book([first], [0, 1]), book([second], [0, 1])]) == 0


def test_a_scaled_layer_changes_its_scale_alone() -> None:
    network = tasks.load("digits", "digits_cnn").reference()
    found = weights(network)
    doubled = {path: w * (4.0 if path == "3.weight" else 1.0) for path, w in found.items()}
    for before, after in zip(collect(found, 8, "layer"), collect(doubled, 8, "layer"), strict=True):
        np.testing.assert_allclose(before.vectors, after.vectors, rtol=1e-5, atol=1e-6)
        assert after.scale == pytest.approx(before.scale * (4 if before.path == "3.weight" else 1))


def books_of(network: nn.Module, masks: bool = False, kind: Any = "additive", scale: Any = "layer") -> list[Book]:
    found = weights(network)
    kept = {path: np.abs(w) > np.median(np.abs(w)) for path, w in found.items()} if masks else None
    layers = collect(found, 8, scale, kept)
    width = 8 if kind == "additive" else 4
    codes = np.random.default_rng(0).integers(0, 16, (len(stack(layers)), 2)).astype(np.int32)
    words = (np.random.default_rng(1).standard_normal((2, 16, width)) / 4).astype(np.float32)
    return [Book(layers, words, codes, kind)]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("kind", ["additive", "product"])
@pytest.mark.parametrize("scale", ["layer", "channel"])
def test_the_trained_network_is_the_one_that_the_decoder_builds(masks: bool, kind: Any, scale: Any) -> None:
    network = tasks.load("digits", "digits_resnet").reference()
    books = books_of(network, masks, kind, scale)
    decoded = Decoded(network, books).eval()
    parts = [dataclasses.replace(p, data={**p.data, "dtype": "float32"}) for p in map(described, books)]
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = decoded(x)
        storage.fill(network, parts)
        torch.testing.assert_close(before, network(x), rtol=1e-4, atol=1e-5)


def test_gradients_reach_codewords_as_often_as_they_are_used() -> None:
    network = tasks.load("digits", "digits_cnn").reference()
    (book,) = books_of(network)
    decoded = Decoded(network, [book])
    sum(
        w.sum() / layer.scale.item() for w, layer in zip(decoded.weights().values(), book.layers, strict=True)
    ).backward()
    used = np.zeros((2, 16))
    for m in range(2):
        used[m] = np.bincount(book.codes[:, m], minlength=16)
    gradient = decoded.codebooks[0].grad
    assert gradient is not None
    # but for the padding of each layer's last vector
    np.testing.assert_allclose(gradient.numpy()[..., 0], used, atol=1e-3)
    assert all(p.grad is None for n, p in decoded.network.named_parameters() if n.endswith("weight") and p.ndim > 1)


def test_training_changes_codewords_and_neither_codes_nor_dense_weights() -> None:
    task = tasks.load("digits", "digits_cnn")
    network = task.reference()
    dense = {path: w.copy() for path, w in weights(network).items()}
    (book,) = books_of(network)
    decoded = Decoded(network, [book])
    fit(decoded, task, test_every_method.MemoryRun(Budget("short", 1.0)), Recipe(0.2, 0.01, optimiser=AdamW()), "s")
    (trained,) = decoded.books()
    assert np.array_equal(decoded.get_buffer("codes0"), book.codes + np.array([0, 16]))
    before, after = (codebook.encode(described(made)).streams for made in (book, trained))
    assert [stream for role, stream in before if role == "indices"] == [s for role, s in after if role == "indices"]
    assert not np.array_equal(trained.codebooks, book.codebooks)
    assert all(np.array_equal(w, dense[path]) for path, w in weights(network).items())
    reference = dict(task.reference().named_parameters())
    others = {name: p for name, p in network.named_parameters() if p.ndim == 1}
    assert len(others) > 4 and all(not torch.equal(p, reference[name]) for name, p in others.items())


def test_vectors_in_another_order_get_the_same_codes() -> None:
    """Without random moves, which follow a vector's place."""
    x = heavy_tailed(700)
    words, codes = means.residual(x, 3, 16)
    order = np.random.default_rng(1).permutation(len(x))
    search = Search(rounds=0, sweeps=3)
    straight = quantizer.encode(x, words, codes, search, 0)
    assert np.array_equal(quantizer.encode(x[order], words, codes[order], search, 0), straight[order])


def test_one_codeword_changes_every_layer_that_uses_it() -> None:
    network = tasks.load("digits", "digits_cnn").reference()
    (book,) = books_of(network)
    decoded = Decoded(network, [book])
    before = {path: w.detach().clone() for path, w in decoded.weights().items()}
    with torch.no_grad():
        decoded.codebooks[0][0, 3] += 1
    changed = {path for path, w in decoded.weights().items() if not torch.equal(w, before[path])}
    ends = np.cumsum([len(layer.vectors) for layer in book.layers])[:-1]
    uses = {
        layer.path for layer, own in zip(book.layers, np.split(book.codes, ends), strict=True) if (own[:, 0] == 3).any()
    }
    assert changed == uses and len(uses) > 1
