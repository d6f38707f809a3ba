"""Joint decompositions of matrices that share a factor (Chen et al. 2023, §III): exact minimisers.

The singular values are in the left factor, as in the official code, whichever factor is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.errors import MethodError
from methods.families.lowrank.unfolding import RankError, check, leading, truncated_svd


def right_shared(matrices: Sequence[Tensor], rank: int, what: str) -> tuple[list[Tensor], Tensor]:
    """RJSVD (Eq. 1-4): min Σ‖W_n − U_n V‖² by the SVD of the vertical stack. For one matrix, the truncated SVD.

    `matrices` (m_n, k) may differ in height. Returns the U_n (m_n, r) and V (r, k) with orthonormal rows.
    """
    _check_alike(what, [m.shape[1] for m in matrices])
    left, singular, right = truncated_svd(torch.cat(list(matrices)), rank, what)
    return list((left * singular).split([len(m) for m in matrices])), right


def left_shared(matrices: Sequence[Tensor], rank: int, what: str) -> tuple[Tensor, list[Tensor]]:
    """LJSVD (Eq. 7-9): min Σ‖W_n − U V_n‖² by the SVD of the horizontal stack.

    `matrices` are (m, k_n). Returns U = GΣ (m, r) and the V_n (r, k_n).
    """
    _check_alike(what, [len(m) for m in matrices])
    left, singular, right = truncated_svd(torch.cat(list(matrices), 1), rank, what)
    return left * singular, list(right.split([m.shape[1] for m in matrices], 1))


def both_shared(
    matrices: Sequence[Tensor], right_rank: int, left_rank: int, sweeps: int, what: str
) -> tuple[list[Tensor], Tensor, Tensor, list[Tensor]]:
    """Bi-JSVD (Eq. 11-18): min Σ‖W_n − U_n V − U V_n‖², alternating between the two shared factors `sweeps` times.

    For fixed orthonormal U and V, the error with the best private factors is Σ‖(I − UUᵀ) W_n (I − VᵀV)‖². So a sweep moves V
    to the leading right vectors of (I − UUᵀ)W_n, then U to the leading left ones of W_n(I − VᵀV), without forming a residual.
    After the first sweep, two subspace iterations from the last solution are sufficient. The error never increases.

    `matrices` (m, k) are equal in shape. Returns U_n (m, r_right), V (r_right, k), U (m, r_left), V_n (r_left, k).
    """
    _check_alike(what, [tuple(m.shape) for m in matrices])
    for matrix in matrices:
        check(matrix, what)
    stack = torch.stack([m.double() for m in matrices])
    rows, columns = torch.cat(list(stack), 1), torch.cat(list(stack))  # (m, N k), (N m, k)
    if not 1 <= right_rank + left_rank <= min(stack.shape[1:]):
        msg = f"ranks {right_rank} + {left_rank} are impossible for {what}: its matrices are {tuple(stack.shape[1:])}"
        raise RankError(msg)
    right_gram, left_gram = columns.T @ columns, rows @ rows.T
    right = leading(right_gram, right_rank)[1]  # V as columns (k, r_right)
    left: Tensor | None = None
    for _ in range(sweeps):
        if left is not None:
            known = torch.cat(list(left.T @ stack))  # (N r_left, k)
            right = _turned(right, lambda x, known=known: right_gram @ x - known.T @ (known @ x))
        seen = torch.cat(list(stack @ right), 1)  # (m, N r_right)
        if left is None:
            left = leading(left_gram - seen @ seen.T, left_rank)[1]
        else:
            left = _turned(left, lambda x, seen=seen: left_gram @ x - seen @ (seen.T @ x))
    assert left is not None
    private = [w @ right - left @ (left.T @ w @ right) for w in stack]
    shared, parts = left_shared([left.T @ w for w in stack], left_rank, what)
    return private, right.T, left @ shared.double(), parts


def _turned(basis: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Two subspace iterations towards the leading eigenvectors of a positive semi-definite operator."""
    for _ in range(2):
        basis = torch.linalg.qr(apply(basis))[0]
    return basis


def _check_alike(what: str, sizes: Sequence[object]) -> None:
    if len(set(sizes)) > 1:
        listed = ", ".join(map(str, sizes))
        msg = f"the matrices of {what} have unequal shapes ({listed}): they can't share this factor"
        raise MethodError(msg)
