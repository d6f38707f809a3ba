"""PyTorch's modes that a caller may have changed, and that would change a training or the tensors that are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def differentiable() -> Iterator[None]:
    """A context, or a decorator, in which gradients are recorded, without inference mode and autocast."""
    cpu, cuda = (torch.autocast(kind, enabled=False) for kind in ("cpu", "cuda"))
    with torch.inference_mode(False), torch.enable_grad(), cpu, cuda:
        yield


@contextmanager
def standard() -> Iterator[None]:
    """The same with all of PyTorch's defaults; afterwards the caller's modes are as they were.

    New tensors are in fp32 on the CPU, matrix products have the highest precision, and operations need not be deterministic.
    """
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    deterministic, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with differentiable(), torch.device("cpu"):
        try:
            torch.set_default_dtype(torch.float32)
            torch.set_float32_matmul_precision("highest")
            torch.use_deterministic_algorithms(False)
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(precision)
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
