"""Convolutions as chains of thin ones with the full numerical rank: the network's function does not change.

A k×k convolution becomes a Tucker-2 chain (1×1, k×k, 1×1; Kim et al., ICLR 2016), a 1×1 convolution the pair of its SVD.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.bitstream.modules import conv2d, sequential
from methods.families.lowrank.unfolding import check
from methods.interface import ModuleSpec

RANK = 1e-7  # singular values below this share of the largest one are rounding errors


def layers(network: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions that are factorised, by path: all that are ordinary, except the first convolution of the network."""
    every = {path: m for path, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    return {path: layer for path, layer in list(every.items())[1:] if ordinary(layer)}


def ordinary(layer: nn.Conv2d) -> bool:
    """Whether a convolution is ungrouped, padded with zeros, has a weight of its own and more than one input and output."""
    own = layer._parameters.get("weight") is not None and layer.padding_mode == "zeros"
    return own and layer.groups == 1 and min(layer.in_channels, layer.out_channels) > 1


def factorised(layer: nn.Conv2d, path: str, balanced: bool = False) -> list[Tensor]:
    """The kernels of the chain, in fp64: all but the last have one gate for each output, its norm.

    Tucker-2: (R₁, I, 1, 1) with orthonormal rows, the core (R₂, R₁, k, k), whose outputs have the singular values of the
    weight's output mode as norms, and (O, R₂, 1, 1) with orthonormal columns. SVD: (r, I, 1, 1) with the singular values as
    norms, and (O, r, 1, 1). `balanced`: the roots of the singular values of the input mode are in the first kernel instead of
    the core. Raises MethodError for weights that are all zero or not finite.
    """
    weight = layer.weight.detach().double()
    check(weight, path)
    outputs = _basis(weight.flatten(1))
    core = torch.einsum("oa,oixy->aixy", outputs, weight)
    last = outputs[:, :, None, None]
    if layer.kernel_size == (1, 1):
        return [core, last]
    inputs = _basis(weight.transpose(0, 1).flatten(1))
    core = torch.einsum("aixy,ib->abxy", core, inputs)
    if balanced:
        scale = core.transpose(0, 1).flatten(1).norm(dim=1).sqrt()
        core, inputs = core / scale[:, None, None], inputs * scale
    return [inputs.T[:, :, None, None], core, last]


def _basis(matrix: Tensor) -> Tensor:
    """Left singular vectors (n, rank) of a matrix, from its Gram matrix, largest first."""
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    singular = values.clamp_min(0).sqrt()
    return vectors[:, singular > RANK * singular[-1]].flip(1)


def windows(layer: nn.Conv2d) -> list[conv2d.Window]:
    """The window of each convolution of the chain: the layer's own is that of the core or, for a pair, of the first one."""
    own: conv2d.Window = {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
    }
    return [own, {"kernel_size": 1}] if layer.kernel_size == (1, 1) else [{"kernel_size": 1}, own, {"kernel_size": 1}]


def chain(layer: nn.Conv2d, kernels: list[Tensor]) -> ModuleSpec:
    """The replacement of a layer by convolutions with such kernels; the last one has the layer's bias."""
    biases = [False] * (len(kernels) - 1) + [layer.bias is not None]
    links = []
    for kernel, window, bias in zip(kernels, windows(layer), biases, strict=True):
        window["bias"] = bias
        links.append(conv2d.spec(kernel.shape[1], len(kernel), **window))
    return sequential.spec(*links)


def recomposed(kernels: list[Tensor]) -> Tensor:
    """The dense kernel (O, I, k, k) that a chain computes: the inverse of `factorised`."""
    *first, last = kernels
    if len(first) == 1:
        return torch.einsum("oa,aixy->oixy", last[:, :, 0, 0], first[0])
    return torch.einsum("oa,abxy,bi->oixy", last[:, :, 0, 0], first[1], first[0][:, :, 0, 0])
