"""The network as the decoder builds it: a named architecture, then edits of known kinds, then shared tensors.

Everything is first built on PyTorch's `meta` device, where a tensor has a shape but no memory. The sizes in a file are
therefore checked before any memory is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.bitstream import modules
from benchmarks.errors import BitstreamError, RateBenchError
from methods.interface import ModuleSpec

MAX_ELEMENTS = 2**28  # tensor elements of one network: 1 GiB of fp32
MAX_DEPTH = 32  # of nested modules
MAX_TENSORS = 2**12  # of one network: ResNet-101 has 522
GROWTH = 4  # a compressed network is rarely larger than its architecture: only a hostile file has so many values more
FEW = 2**20  # values that any file may promise


def _module(spec: ModuleSpec, path: str, depth: int) -> nn.Module:
    if depth > MAX_DEPTH:
        msg = f"module {path[:100]!r} is nested more than {MAX_DEPTH} deep: the file is damaged or hostile"
        raise BitstreamError(msg)
    children = [_module(child, path, depth + 1) for child in spec.children]
    try:
        return modules.get(spec.kind).build(spec.arguments, children)
    except RateBenchError as error:
        msg = f"module {path!r} can't be built: {error}"
        raise BitstreamError(msg) from error
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        msg = f"module {path!r} can't be built as {spec.kind}: {error}"
        raise BitstreamError(msg) from error


def skeleton(
    architecture: str, arguments: Mapping[str, Any], edits: Mapping[str, ModuleSpec], tied: Mapping[str, str]
) -> nn.Module:
    """The network on the `meta` device: all shapes, no memory.

    Raises BitstreamError for an unknown architecture, an edit of an unknown kind or with arguments out of bounds, a path
    that does not exist, more than MAX_TENSORS tensors, or more elements than MAX_ELEMENTS or GROWTH times the architecture's.
    """
    with torch.device("meta"):
        try:
            network = networks.build(architecture, arguments)
        except networks.NetworkError as error:
            raise BitstreamError(str(error)) from error
        most = min(MAX_ELEMENTS, max(FEW, GROWTH * _elements(network)))
        for path, spec in edits.items():
            parent, name = _locate(network, path)
            if not isinstance(getattr(parent, name, None), nn.Module):
                msg = f"the file edits module {path!r}, which {architecture} does not have"
                raise BitstreamError(msg)
            setattr(parent, name, _module(spec, path, path.count(".")))
    if (total := _elements(network)) > most:  # with tied ones
        msg = f"the network promises {total} values, more than the {most} that a file of {architecture} may hold"
        raise BitstreamError(msg)
    if (count := len(state(network))) > MAX_TENSORS:
        msg = f"the network has {count} tensors, more than the {MAX_TENSORS} that a file may hold"
        raise BitstreamError(msg)
    tie(network, tied)
    return network


def _elements(network: nn.Module) -> int:
    return sum(math.prod(tensor.shape) for tensor in state(network).values())


def allocate(network: nn.Module, tied: Mapping[str, str]) -> None:
    """Allocate a skeleton's tensors on the CPU, in place, shared ones once. Values are undefined, batch counters are zero."""
    made: dict[int, tuple[Tensor, Tensor]] = {}  # with the skeleton's own tensor, so that no other one gets its id

    def empty(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            made[id(tensor)] = tensor, torch.empty_like(tensor, device="cpu")
        return made[id(tensor)][1]

    network._apply(empty)  # type: ignore[no-untyped-call]
    tie(network, tied)  # each path has a Parameter of its own now
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.zero_()


def tie(network: nn.Module, tied: Mapping[str, str]) -> None:
    """Make each path in `tied` share the Parameter at the path to which `tied` maps it."""
    for path, source in tied.items():
        parent, name = _locate(network, path)
        holder, source_name = _locate(network, source)
        here, shared = parent._parameters.get(name), holder._parameters.get(source_name)
        if here is None or shared is None or here.shape != shared.shape or source in tied:
            msg = f"the file ties {path!r} to {source!r}, but they are not free parameters of one shape"
            raise BitstreamError(msg)
        parent._parameters[name] = shared


def _locate(network: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    try:
        return network.get_submodule(parent), name
    except AttributeError as error:
        msg = f"the file names {path!r}, which the network does not have"
        raise BitstreamError(msg) from error


def state(network: nn.Module, tied: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors that a file has to fill, by path: all parameters and buffers except batch counters.

    A shared parameter appears once: under the path that is not in `tied` or, if `tied` is empty, under its first path.
    """
    parameters = network.named_parameters(remove_duplicate=not tied)
    tensors: dict[str, Tensor] = {k: v for k, v in parameters if k not in tied}
    tensors |= {k: v for k, v in network.named_buffers() if not k.endswith("num_batches_tracked")}
    return tensors


def values(network: nn.Module) -> int:
    """The number of a network's floating-point values that a file has to hold; a shared tensor counts once."""
    return sum(tensor.numel() for tensor in state(network).values() if tensor.is_floating_point())
