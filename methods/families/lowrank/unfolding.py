"""A convolution as a matrix, a matrix as a pair of thin convolutions, and truncated decompositions by Gram matrices.

Unfolding and identity: Tai et al., Convolutional neural networks with low-rank regularization, ICLR 2016; Chen et al.,
Joint matrix decomposition, Neurocomputing 2023, Eq. 5.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from scipy.sparse import linalg as sparse
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from benchmarks.bitstream.modules import conv2d, sequential
from benchmarks.errors import MethodError
from methods.interface import ModuleSpec


def unfold(weight: Tensor) -> Tensor:
    """Kernel (O, I, kH, kW) to matrix (kH·I, kW·O): rows kh·I + i, columns kw·O + o."""
    outputs, inputs, height, width = weight.shape
    return weight.permute(2, 1, 3, 0).reshape(height * inputs, width * outputs)


def left_kernel(left: Tensor, height: int) -> Tensor:
    """Left factor (kH·I, r) to the kernel (r, I, kH, 1) of the first convolution."""
    return left.reshape(height, -1, left.shape[1]).permute(2, 1, 0).unsqueeze(3).contiguous()


def right_kernel(right: Tensor, width: int) -> Tensor:
    """Right factor (r, kW·O) to the kernel (O, r, 1, kW) of the second convolution."""
    return right.reshape(right.shape[0], width, -1).permute(2, 0, 1).unsqueeze(2).contiguous()


class Window(TypedDict):
    """The window of a convolution, (vertical, horizontal)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


def first_of_pair(layer: nn.Conv2d) -> Window:
    """Kernel, stride and padding of the (kH, 1) convolution: the vertical part."""
    (height, _), (down, _), (above, _) = layer.kernel_size, layer.stride, layer.padding
    return {"kernel_size": (height, 1), "stride": (down, 1), "padding": (int(above), 0)}


def second_of_pair(layer: nn.Conv2d) -> Window:
    """Kernel, stride and padding of the (1, kW) convolution: the horizontal part."""
    (_, width), (_, across), (_, beside) = layer.kernel_size, layer.stride, layer.padding
    return {"kernel_size": (1, width), "stride": (1, across), "padding": (0, int(beside))}


def pair(layer: nn.Conv2d, rank: int) -> ModuleSpec:
    """The replacement of `layer`: two convolutions without bias or non-linearity between them (§3.2)."""
    return sequential.spec(
        conv2d.spec(in_channels=layer.in_channels, out_channels=rank, bias=False, **first_of_pair(layer)),
        conv2d.spec(in_channels=rank, out_channels=layer.out_channels, bias=False, **second_of_pair(layer)),
    )


def leading(gram: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues (r,), descending, and eigenvectors (n, r) of a symmetric matrix (n, n), in its dtype.

    If `few` is true, Lanczos iterations are used: they take a tenth of the time. Each vector's largest entry is positive.
    """
    if few(rank, len(gram)):
        matrix = gram.numpy()
        start = np.linspace(1, 2, len(gram), dtype=matrix.dtype)  # any fixed vector, for equal bits in each run
        # Otherwise the threads of BLAS and of torch spend most of their time waiting for each other.
        with threadpool_limits(1, "blas"):
            values, vectors = map(torch.from_numpy, sparse.eigsh(matrix, k=rank, which="LA", v0=start, tol=1e-5))
    else:
        values, vectors = torch.linalg.eigh(gram)
    order = values.argsort(descending=True)[:rank]
    vectors = vectors[:, order]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return values[order], vectors * largest.sign()


class RankError(MethodError):
    """The requested rank exceeds the rank of the matrix: the rate is too high."""


def few(rank: int, size: int) -> bool:
    """Whether so few eigenvectors are needed that they are computed iteratively, in fp32."""
    return size >= 256 and 8 * rank < size


def check(weights: Tensor, what: str) -> None:
    """Raises MethodError for weights that can't be decomposed: NaN, infinite or all zero."""
    if not torch.isfinite(weights).all():
        msg = f"the weights of {what} have NaN or infinite values: they can't be decomposed"
        raise MethodError(msg)
    if not weights.any():
        msg = f"the weights of {what} are all zero: they can't be decomposed"
        raise MethodError(msg)


def truncated_svd(matrix: Tensor, rank: int, what: str) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors (m, r), singular values (r,) and right vectors (r, n) of the best rank-r approximation.

    In fp64, or in fp32 if `few` is true: the relative difference in the error is 1e-9, because the error does not
    depend on the vectors to first order. `what` names the matrix in errors. Raises MethodError if `check` does, and RankError
    if the matrix has a rank below `rank`.
    """
    check(matrix, what)
    if not 1 <= rank <= min(matrix.shape):
        msg = f"rank {rank} is impossible for {what}: its matrix {tuple(matrix.shape)} has at most {min(matrix.shape)}"
        raise RankError(msg)
    matrix, zero = (matrix.float(), 1e-3) if few(rank, min(matrix.shape)) else (matrix.double(), 1e-7)
    tall = matrix.shape[0] >= matrix.shape[1]
    values, vectors = leading(matrix.T @ matrix if tall else matrix @ matrix.T, rank)
    singular = values.clamp_min(0).sqrt()
    if singular[-1] <= zero * singular[0]:  # `zero` is large because a Gram matrix squares rounding errors
        real = int((singular > zero * singular[0]).sum())
        msg = f"rank {rank} is above the rank {real} of the weights of {what}: lower the rate"
        raise RankError(msg)
    if tall:
        return matrix @ vectors / singular, singular, vectors.T
    return vectors, singular, (vectors / singular).T @ matrix
