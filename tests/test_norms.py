"""Norms that rank filters and scale tensors, against plain loops: an ℓ1 norm in the place of an ℓ2 norm shows."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import test_every_method as kit
import torch
from test_asked_of_fit import replace_fit
from torch import Tensor, nn

from benchmarks import tasks
from methods.aq import quantizer
from methods.baselines import fpgm, l1_filter, sfp, torch_pruning
from methods.interface import Budget
from methods.surp.source import normalise

SHORT = Budget("short", 1.0)


def values(filter_: Tensor) -> list[float]:
    return [float(v) for v in filter_.detach().flatten()]


def scores_of(method: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network and the scores, by group, by which a method chooses its filters at its first point."""
    found: dict[str, Tensor] = {}

    def spy(*arguments: Any) -> Any:
        if name == "same_share":
            prunable, _, _, score = arguments
            scores = {group.name: score(group) for group in prunable.groups}
        else:
            scores = arguments[0]
        for group, own in scores.items():
            found.setdefault(group, own.detach().clone())
        return {group: torch.ones(len(own), dtype=torch.bool) for group, own in scores.items()}

    @torch.no_grad()
    def steps(
        network: Any, task: Any, run: Any, recipe: Any, stage: str, masks: Any = None, callback: Any = None
    ) -> None:
        for _ in range(100 if callback else 0):
            callback.after_step()

    monkeypatch.setattr(method, name, spy)
    replace_fit(monkeypatch, steps)
    task = tasks.load("digits", "digits_cnn")
    next(method.compress(task, method.Config(), kit.MemoryRun(SHORT)))
    assert list(found) == ["0", "3", "7"]
    return task.reference(), found


@pytest.mark.parametrize(("method", "power"), [(l1_filter, 1), (sfp, 2)])
def test_filters_are_ranked_by_their_norm(method: Any, power: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, found = scores_of(method, "same_share", monkeypatch)
    for path, scores in found.items():
        weight = network.get_parameter(f"{path}.weight")
        norms = [sum(abs(v) ** power for v in values(filter_)) ** (1 / power) for filter_ in weight]
        assert scores.tolist() == pytest.approx(norms, rel=1e-5)


def test_the_geometric_median_is_by_euclidean_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 and 4 to either side are 5 away, not 7."""
    corner = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    assert fpgm.distances(corner, torch.ones(3, dtype=torch.bool)).tolist() == [15, 10, 15]
    network, found = scores_of(fpgm, "same_share", monkeypatch)
    for path, scores in found.items():
        rows = [values(filter_) for filter_ in network.get_parameter(f"{path}.weight")]
        sums = [sum(math.dist(row, other) for other in rows) for row in rows]
        assert scores.tolist() == pytest.approx(sums, rel=1e-3)


def test_coupled_channels_are_ranked_by_their_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """What writes a channel, its scale in BatchNorm and what reads it: the mean of three sums of squares."""
    network, found = scores_of(torch_pruning, "highest", monkeypatch)
    for path, norm, reader in (("0", "1", "3"), ("3", "4", "7"), ("7", "8", "12")):
        written, scale, read = (network.get_parameter(f"{p}.weight").detach() for p in (path, norm, reader))
        sums = [
            sum(sum(v * v for v in values(piece)) for piece in (written[c], scale[c], read[:, c]))
            for c in range(len(written))
        ]
        mean = sum(sums) / len(sums)
        assert (found[path] / found[path].mean()).tolist() == pytest.approx([s / mean for s in sums], rel=1e-4)


@pytest.mark.parametrize(("norm", "sizes"), [("l2", (5.0, 13.0, 0.0)), ("l1", (7.0, 17.0, 0.0))])
def test_tensors_are_divided_by_their_norm(norm: Any, sizes: tuple[float, ...]) -> None:
    tensors = [np.array([[3.0, -4.0]]), np.array([-12.0, 0.0, 5.0]), np.zeros(2)]
    made = normalise(tensors, norm)
    assert made.norms.tolist() == list(sizes) and made.negative.tolist() == [
        False,
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    wanted = [abs(float(v)) / size if size else 0.0 for t, size in zip(tensors, sizes, strict=True) for v in t.ravel()]
    assert made.u.tolist() == pytest.approx(wanted)


def test_the_published_norm_is_the_default() -> None:
    assert normalise([np.array([3.0, 4.0])]).norms.tolist() == [5.0]


@pytest.fixture
def vectors() -> Any:
    return np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


def test_the_error_of_codes_is_a_sum_of_squares(vectors: Any) -> None:
    draws = np.random.default_rng(1)
    books, codes = draws.standard_normal((2, 5, 3)).astype(np.float32), draws.integers(5, size=(40, 2)).astype(np.int32)
    total = 0.0
    for x, (a, b) in zip(vectors, codes, strict=True):
        for t in range(3):
            total += (float(x[t]) - float(books[0, a, t]) - float(books[1, b, t])) ** 2
    assert quantizer.error(vectors, books, codes) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("errors", "best"), [([5.0, 3.0, 4.0], 3.0), ([3.0, 4.0, 5.0], 3.0), ([1e9, 1e9], None), ([5.0, 4.0, 3.0], 3.0)]
)
def test_the_best_codebooks_are_returned_and_not_the_last(
    errors: list[float], best: float | None, vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no iteration is better than the start, the start is returned."""
    made = [quantizer.Quantised(np.full((2, 4, 3), e, np.float32), np.zeros((40, 2), np.int32), e) for e in errors]
    monkeypatch.setattr(quantizer, "improved", lambda *_: iter(made))
    found = quantizer.learn(vectors, 2, 4, quantizer.Search())
    if best is None:
        assert found.error < 1e9 and found.error == quantizer.error(vectors, found.codebooks, found.codes)
    else:
        assert found.error == best and (found.codebooks == best).all()
