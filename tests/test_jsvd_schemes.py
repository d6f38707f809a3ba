"""Joint decompositions of matrices: exact identities, optimal errors, and sharing both sides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.errors import MethodError
from methods.families.lowrank.unfolding import (
    first_of_pair,
    leading,
    left_kernel,
    right_kernel,
    second_of_pair,
    truncated_svd,
    unfold,
)
from methods.jsvd import schemes


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alike(count: int, rows: int, columns: int, noise: float = 0.5) -> list[Tensor]:
    """Matrices with a common low-rank part, as the layers of a trained stage are assumed to have."""
    common = random(rows, 6) @ random(6, columns, seed=1)
    return [common + noise * random(rows, columns, seed=n + 2) for n in range(count)]


def tail(matrix: Tensor, rank: int) -> float:
    return float(torch.linalg.svdvals(matrix)[rank:].square().sum())


def error(matrices: Sequence[Tensor], products: Sequence[Tensor]) -> float:
    return sum(float((m - p).square().sum()) for m, p in zip(matrices, products, strict=True))


def right_products(matrices: Sequence[Tensor], rank: int) -> list[Tensor]:
    lefts, right = schemes.right_shared(matrices, rank, "w")
    return [u @ right for u in lefts]


def left_products(matrices: Sequence[Tensor], rank: int) -> list[Tensor]:
    left, rights = schemes.left_shared(matrices, rank, "w")
    return [left @ v for v in rights]


def both_products(matrices: Sequence[Tensor], right_rank: int, left_rank: int, sweeps: int) -> list[Tensor]:
    private, right, left, parts = schemes.both_shared(matrices, right_rank, left_rank, sweeps, "w")
    return [u @ right + left @ v for u, v in zip(private, parts, strict=True)]


@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize("kernel", [1, 3, 5, (3, 1)])
def test_a_pair_of_full_rank_is_the_convolution(kernel: Any, stride: Any, size: tuple[int, int]) -> None:
    padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
    layer = nn.Conv2d(3, 5, kernel, stride, padding, bias=False).double()
    matrix = unfold(layer.weight.detach())
    left, singular, right = truncated_svd(matrix, min(matrix.shape), "w")
    first, second = first_of_pair(layer), second_of_pair(layer)
    height, width = layer.kernel_size
    x = random(2, 3, *size)
    thin = F.conv2d(x, left_kernel(left * singular, height), None, first["stride"], first["padding"])
    made = F.conv2d(thin, right_kernel(right, width), None, second["stride"], second["padding"])
    torch.testing.assert_close(made, layer(x), rtol=0, atol=1e-10)


def test_unfolding_has_the_index_rule_of_the_paper() -> None:
    weight = random(4, 3, 2, 5)  # O, I, kH, kW
    matrix = unfold(weight)
    assert matrix.shape == (6, 20)
    for o, i, kh, kw in itertools.product(range(4), range(3), range(2), range(5)):
        assert matrix[kh * 3 + i, kw * 4 + o] == weight[o, i, kh, kw]


@pytest.mark.parametrize(("size", "rank"), [(12, 5), (400, 7), (400, 399)])
def test_leading_eigenvectors_by_both_ways(size: int, rank: int) -> None:
    factor = random(size, size)
    gram = factor.T @ factor
    values, vectors = leading(gram, rank)
    assert values.tolist() == pytest.approx(torch.linalg.eigvalsh(gram).flip(0)[:rank].tolist())
    torch.testing.assert_close(gram @ vectors, vectors * values, rtol=0, atol=1e-5 * float(values[0]))
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-9)
    again = leading(gram, rank)[1]
    assert torch.equal(vectors, again)


@pytest.mark.parametrize("rank", [1, 6, 17])
def test_a_joint_error_is_the_tail_of_the_stack(rank: int) -> None:
    matrices = alike(3, 24, 18)
    assert error(matrices, right_products(matrices, rank)) == pytest.approx(tail(torch.cat(matrices), rank), rel=1e-9)
    assert error(matrices, left_products(matrices, rank)) == pytest.approx(tail(torch.cat(matrices, 1), rank), rel=1e-9)


def test_few_of_many_in_single_precision_are_as_good() -> None:
    matrices = alike(3, 300, 280, noise=1.0)
    for products, stack in ((right_products, torch.cat(matrices)), (left_products, torch.cat(matrices, 1))):
        found = [p.double() for p in products(matrices, 20)]
        assert error(matrices, found) == pytest.approx(tail(stack, 20), rel=1e-8)
    low = random(300, 3) @ random(3, 280, seed=1)
    with pytest.raises(MethodError, match="rank 20 is above the rank 3 of the weights of w"):
        schemes.right_shared([low], 20, "w")


def test_shared_factors_are_as_the_paper_says() -> None:
    matrices = alike(4, 20, 12)
    lefts, right = schemes.right_shared(matrices, 5, "w")
    torch.testing.assert_close(right @ right.T, torch.eye(5, dtype=torch.float64))
    for u, w in zip(lefts, matrices, strict=True):
        torch.testing.assert_close(u, w @ right.T)
    left, rights = schemes.left_shared(matrices, 5, "w")
    gram = left.T @ left  # U = GΣ
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=0, atol=1e-8)
    assert (gram.diagonal().diff() < 0).all()
    joined = torch.cat(rights, 1)
    torch.testing.assert_close(joined @ joined.T, torch.eye(5, dtype=torch.float64))


def test_one_matrix_is_its_truncated_svd_and_equal_ones_cost_nothing_more() -> None:
    (single,) = alike(1, 20, 12)
    for products in (right_products, left_products):
        assert error([single], products([single], 4)) == pytest.approx(tail(single, 4))
        assert error([single] * 3, products([single] * 3, 4)) == pytest.approx(3 * tail(single, 4))


@pytest.mark.parametrize("products", [right_products, left_products])
def test_sharing_constrains_and_rank_helps(products: Any) -> None:
    matrices = alike(3, 20, 16)
    errors = [error(matrices, products(matrices, rank)) for rank in range(1, 17)]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    for rank, joint in enumerate(errors, 1):
        assert joint >= sum(tail(m, rank) for m in matrices) - 1e-9


def test_sharing_both_never_gets_worse_with_sweeps_and_beats_either_side() -> None:
    matrices = alike(4, 30, 24, noise=1.0)
    errors = [error(matrices, both_products(matrices, 4, 3, sweeps)) for sweeps in (1, 2, 3, 5, 10, 30)]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(errors))
    assert errors[-1] >= sum(tail(m, 7) for m in matrices)
    assert errors[-1] < error(matrices, right_products(matrices, 4))
    assert errors[-1] < error(matrices, left_products(matrices, 3))


@pytest.mark.parametrize(("right_rank", "left_rank"), [(4, 3), (2, 6), (7, 1)])
def test_sharing_both_is_at_least_as_good_as_the_papers_iteration(right_rank: int, left_rank: int) -> None:
    matrices = alike(3, 30, 24, noise=1.0)
    rest = [torch.zeros_like(m) for m in matrices]
    for _ in range(30):  # Algorithm 3 as printed
        right = right_products([m - q for m, q in zip(matrices, rest, strict=True)], right_rank)
        rest = left_products([m - p for m, p in zip(matrices, right, strict=True)], left_rank)
    printed = error(matrices, [p + q for p, q in zip(right, rest, strict=True)])
    assert error(matrices, both_products(matrices, right_rank, left_rank, 30)) <= 1.01 * printed
