"""Layers that can't be made narrower: channels that they read or write are left whole."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.training.batchnorm import foldable


def obstacle(path: str, module: nn.Module) -> str | None:
    """Why a module with tensors of its own can't be made narrower, in one sentence that names it; None if it can."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        if module._parameters.get("weight") is None:
            return f"{path} computes its weight from other tensors, e.g. by weight_norm: it can't be made narrower"
        if isinstance(module, nn.Linear):
            return None
        if module.groups != 1 and not module.groups == module.in_channels == module.out_channels:
            return f"{path} is a convolution in {module.groups} groups: only ordinary and depthwise ones can be made narrower"
        if module.padding_mode != "zeros":
            return f"{path} pads with {module.padding_mode!r}: only convolutions padded with zeros can be made narrower"
        return None
    if isinstance(module, nn.BatchNorm2d):
        return None if foldable(module) else f"{path} is a BatchNorm2d without affine parameters or running statistics"
    return f"{path} is a {type(module).__name__}: it can't be made narrower"


def obstacles(network: nn.Module) -> list[str]:
    """`obstacle` of each layer of a network that can't be made narrower: of those with tensors and without parts."""
    found = []
    for path, module in network.named_modules():
        computed = isinstance(module, nn.Conv2d | nn.Linear)
        if computed or (next(module.children(), None) is None and next(iter(module.state_dict()), None) is not None):
            found += [reason] if (reason := obstacle(path, module)) else []
    return found


def check_hooks(network: nn.Module) -> None:
    """Raise MethodError for a layer whose tensors a hook computes: such a network can't be copied while it is pruned."""
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                msg = (
                    f"{path}.{name} is computed by a hook, as by torch.nn.utils.weight_norm, and the network can't be copied: "
                    "use a parametrisation of torch.nn.utils.parametrizations instead"
                )
                raise MethodError(msg)
