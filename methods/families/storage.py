"""The tensors of a network: what a file must contain, stored raw, and as a decoder will reconstruct them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.bitstream import blueprint, codecs
from benchmarks.bitstream.codecs import raw
from benchmarks.errors import MethodError
from methods.interface import Part, Role, Task

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
Layer: TypeAlias = nn.modules.conv._ConvNd | nn.Linear


def layers(network: nn.Module) -> dict[str, Layer]:
    """Convolutions and linear layers by path, without those that compute their weight from other tensors (weight_norm).

    Raises MethodError if there are none.
    """
    found = {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, Layer) and module._parameters.get("weight") is not None
    }
    if not found:
        msg = "the network has no convolution or linear layer with a weight of its own: there is nothing to compress"
        raise MethodError(msg)
    return found


def check_names(task: Task) -> None:
    """Raise MethodError if two names of the task's network are one tensor: a file fills a tensor under one name."""
    network = blueprint.skeleton(task.architecture, task.arguments, {}, {})
    first: dict[Tensor, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if (known := first.setdefault(parameter, name)) != name:
            msg = (
                f"{known} and {name} of {task.network} are one tensor, but a file fills each tensor under one name: "
                "give each layer a tensor of its own"
            )
            raise MethodError(msg)


def tensors(network: nn.Module, tied: Mapping[str, str] | None = None) -> Arrays:
    """All tensors that a file must contain, by path; they share memory with the network."""
    return {name: tensor.detach().numpy() for name, tensor in blueprint.state(network, tied or {}).items()}


def matrices(found: Arrays) -> Arrays:
    """The tensors with more than one dimension: weights of convolutions and linear layers."""
    return {name: values for name, values in found.items() if values.ndim > 1}


def stored_raw(found: Arrays, dtype: Literal["float32", "float16"]) -> list[Part]:
    """Parts with all tensors unchanged, except integers: first weights, then tensors of one dimension.

    Tensors with values beyond the range of fp16 are stored in fp32.
    """
    floats = {name: values for name, values in found.items() if values.dtype != np.int64}
    weights = matrices(floats)
    others = {name: values for name, values in floats.items() if name not in weights}
    parts: list[Part] = []
    roles: tuple[tuple[Arrays, Role], ...] = ((weights, "weights"), (others, "norm_bias"))
    for chosen, role in roles:
        wide = {name: values for name, values in chosen.items() if dtype == "float16" and not fits_fp16(values)}
        kept = {name: values for name, values in chosen.items() if name not in wide}
        parts += [raw.part(list(kept), list(kept.values()), role, dtype)] if kept else []
        parts += [raw.part(list(wide), list(wide.values()), role, "float32")] if wide else []
    return parts


def fits_fp16(values: npt.NDArray[Any]) -> bool:
    """Whether no value is beyond the range of fp16, or of the integers that it holds exactly."""
    most = 2**11 if values.dtype.kind in "iu" else float(np.finfo(np.float16).max)
    return float(np.abs(values).max(initial=0)) <= most


@torch.no_grad()
def fill(network: nn.Module, parts: Sequence[Part]) -> None:
    """Set the network's tensors, in place, to the values that the decoder will reconstruct from the parts."""
    known = blueprint.state(network)
    for part in parts:
        coded = codecs.get(part.codec).encode(part)
        shapes = [tuple(known[target].shape) for target in part.targets]
        arrays = codecs.get(part.codec).decode(coded.meta, [stream for _, stream in coded.streams], shapes)
        for target, array in zip(part.targets, arrays, strict=True):
            known[target].copy_(torch.from_numpy(array))
