"""The PQ Index, the bound on it, and iterative pruning from the same initial weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_every_method import MemoryRun
from torch import Tensor

from benchmarks import bitstream, tasks
from methods import sap
from methods.interface import Budget, Compressed
from methods.sap.pruning import MOST, Adaptive, Fixed, pq_index, prune
from methods.sparse_linear import neurons

ORDERS = ((0.5, 1.0), (1.0, 2.0), (0.2, 1.8))
rows = arrays(np.float64, (2, 12), elements=st.floats(-10, 10).map(lambda x: round(x, 3)))
every = torch.ones(2, 12, dtype=torch.bool)


def index(values: list[float], p: float, q: float) -> float:
    """Definition 1 for one vector."""
    found = np.abs(np.array(values))
    norms = [(found**order).sum() ** (1 / order) for order in (p, q)]
    return float(1 - len(values) ** (1 / q - 1 / p) * norms[0] / norms[1])


@pytest.mark.parametrize(("p", "q"), ORDERS)
@given(values=rows)
@settings(max_examples=40, deadline=None)
def test_the_index_is_that_of_the_kept_entries(values: np.ndarray, p: float, q: float) -> None:
    kept = torch.from_numpy(np.random.default_rng(0).random((2, 12)) < 0.6)
    for row, mask, one in zip(
        values, kept.numpy(), pq_index(torch.from_numpy(values), kept, p, q).tolist(), strict=True
    ):
        wanted = index(list(row[mask]), p, q) if row[mask].any() else 0.0
        assert one == pytest.approx(max(wanted, 0.0), abs=1e-9) and 0 <= one < 1


@pytest.mark.parametrize(("p", "q"), ORDERS)
def test_equal_entries_have_no_index_and_a_single_one_the_largest(p: float, q: float) -> None:
    values = torch.stack([torch.full((12,), -0.3), torch.eye(12)[3]]).double()
    assert pq_index(values, every, p, q).tolist() == pytest.approx([0, 1 - 12 ** (1 / q - 1 / p)], abs=1e-12)
    nothing = pq_index(values, ~every, p, q)
    assert nothing.tolist() == [0, 0] and pq_index(0 * values, every, p, q).tolist() == [0, 0]


@given(values=rows, scale=st.floats(1e-6, 1e6), order=st.sampled_from(ORDERS))
@settings(max_examples=40, deadline=None)
def test_scaling_permuting_and_cloning_change_nothing(
    values: np.ndarray, scale: float, order: tuple[float, float]
) -> None:
    """Three of the axioms of sparsity; of equal sums, the more equal pair has the smaller index (Robin Hood)."""
    plain, known = torch.from_numpy(values), pq_index(torch.from_numpy(values), every, *order)
    for other, mask in ((scale * plain, every), (plain.flip(1), every), (plain.repeat(1, 2), every.repeat(1, 2))):
        torch.testing.assert_close(pq_index(other, mask, *order), known, rtol=1e-9, atol=1e-9)
    pair = pq_index(torch.tensor([[3.0, 1, 2], [2.5, 1.5, 2]]).double(), torch.ones(2, 3, dtype=torch.bool), *order)
    assert pair[0] > pair[1]


def test_the_bound_is_that_of_the_sparsity_index() -> None:
    """With the order q of the sparsity index as p, and 1 as q, r is the number of weights that it bounds."""
    values = torch.randn(50, 512, generator=torch.Generator().manual_seed(0)).double()
    kept = torch.ones_like(values, dtype=torch.bool)
    for eta in (0.0, 0.2):
        removed = Adaptive(0.5, 1.0, eta, 1.0).removed(values, kept)
        assert removed.tolist() == (512 - neurons.kept(values, eta, 0.5)).tolist()
    root, mean = (
        math.gamma(0.75) * 2**0.25 / math.sqrt(math.pi),
        math.sqrt(2 / math.pi),
    )  # E √|x| and E |x| of normal values
    assert pq_index(values, kept, 0.5, 1.0).mean().item() == pytest.approx(1 - root**2 / mean, abs=0.002)


def test_no_round_removes_more_than_the_cap() -> None:
    values = torch.stack([torch.eye(100)[7], torch.ones(100)]).double()
    kept = torch.ones(2, 100, dtype=torch.bool)
    assert Adaptive(0.5, 1.0, 0.0, 9.0).removed(values, kept).tolist() == [int(MOST * 100), 0]
    assert Adaptive(0.5, 1.0, 1.0, 1.0).removed(values, ~kept).tolist() == [0, 0]
    kept[0, :31] = False
    assert Fixed(0.2).removed(values, kept).tolist() == [13, 20]


def small() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"a": torch.randn(4, 3, 3, 3, generator=generator), "b": 0.1 * torch.randn(5, 20, generator=generator)}


@pytest.mark.parametrize("scope", ["neuron", "layer", "global"])
@pytest.mark.parametrize("rule", [Fixed(0.3), Adaptive(1.0, 2.0, 0.0, 1.0), Adaptive(0.5, 1.0, 0.3, 1.0)], ids=str)
def test_the_smallest_of_each_vector_go(scope: Any, rule: Adaptive | Fixed) -> None:
    """Against a plain loop over vectors, for three rounds; nothing comes back."""
    weights = small()
    masks = {name: torch.ones_like(values, dtype=torch.bool) for name, values in weights.items()}
    for _ in range(3):
        before = {name: mask.clone() for name, mask in masks.items()}
        prune(weights, masks, rule, scope)
        if scope == "neuron":
            groups = [[(name, unit)] for name, values in weights.items() for unit in range(len(values))]
        else:
            whole: list[tuple[str, Any]] = [(name, slice(None)) for name in weights]
            groups = [[one] for one in whole] if scope == "layer" else [whole]
        for group in groups:
            values = torch.cat([weights[name][unit][before[name][unit]].flatten() for name, unit in group]).double()
            if isinstance(rule, Fixed):
                gone = math.floor(len(values) * rule.share)
            else:
                low = 1 - index(values.tolist(), rule.p, rule.q)
                bound = (1 + rule.eta) ** (-rule.q / (rule.q - rule.p)) * low ** (rule.p * rule.q / (rule.q - rule.p))
                needed = math.ceil(len(values) * bound)
                gone = math.floor(len(values) * min(1 - needed / len(values), MOST) + 1e-9)
            left = torch.cat([weights[name][unit][masks[name][unit]].flatten() for name, unit in group]).double()
            assert sorted(left.abs().tolist()) == sorted(values.abs().tolist())[gone:]
        assert not any((masks[name] & ~before[name]).any() for name in masks)


def test_equal_magnitudes_stay_together() -> None:
    weights, masks = {"a": torch.tensor([[1.0, 1, 1, 5]])}, {"a": torch.ones(1, 4, dtype=torch.bool)}
    prune(weights, masks, Fixed(0.5), "layer")
    assert masks["a"].tolist() == [[True] * 4]  # the third smallest is not larger than the two before it


def rounds(mode: Any) -> tuple[list[Compressed], dict[str, Any]]:
    run = MemoryRun(Budget("short", 1.0))
    config = sap.Config(mode=mode, rounds=2, share=0.5)
    return list(sap.compress(tasks.load("digits", "digits_cnn"), config, run)), run.saved


@pytest.mark.parametrize("mode", ["adaptive", "lottery", "one_shot"])
def test_every_round_starts_again_and_keeps_its_zeros(mode: Any) -> None:
    made, saved = rounds(mode)
    assert [one.point for one in made] == [{"round": 0}, {"round": 1}, {"round": 2}]
    kept = [float(one.notes["kept"]) for one in made]  # type: ignore[arg-type]
    assert kept[0] == 1 > kept[1] > kept[2]
    if mode != "adaptive":
        assert kept[1:] == pytest.approx([0.5, 0.25], abs=0.02)
    exact = [saved[f"round {number}"]["callback"]["exact"] for number in range(3)]
    decoded = bitstream.decode(bitstream.encode(made[2])).state_dict()
    for name, last in exact[2].items():
        zeros = last == 0
        assert (zeros | (exact[1][name] != 0)).all() and not decoded[name][zeros].any()
        for unit, gone in enumerate(zeros):  # by the magnitudes of the first training, or of the one before
            known = exact[0 if mode == "one_shot" else 1][name][unit].abs()
            assert not gone.any() or known[gone].max() <= known[~gone].min()


def test_a_round_does_not_go_on_from_the_one_before() -> None:
    """All rounds start from the same random values: with nothing removed, two rounds differ in their shuffles alone."""
    task, run = tasks.load("digits", "digits_cnn"), MemoryRun(Budget("short", 1.0))
    first, again = (sap.initial(task, run).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = sap.initial(task, MemoryRun(Budget("short", 1.0), seed=1)).state_dict()
    assert not any(
        torch.equal(first[name], other[name]) for name in first if name.endswith("weight") and first[name].ndim > 1
    )


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.9), (1.0, 1.0)])
def test_orders_outside_the_definition_are_refused(p: float, q: float) -> None:
    with pytest.raises(ValueError, match="larger than p"):
        sap.Config(p=p, q=q)
