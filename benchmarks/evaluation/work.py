"""What a network costs for one item, counted from the shapes of its operations before they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from benchmarks.evaluation.inference import inference

_POOLING = {  # by name: the number of dimensions of a window
    "avg_pool2d": 2,
    "avg_pool3d": 3,
    "max_pool2d_with_indices": 2,
    "max_pool3d_with_indices": 3,
}


@dataclass(frozen=True)
class Work:
    """`largest` is the number of values in the largest output of any module.

    `macs` are the multiply-accumulates of convolutions and matrix products, zeros included, as torch's formulas count them.
    `moved` is the sum over all operations of the values that they read and write. Pooling reads a window for each output.
    """

    largest: int = 0
    macs: int = 0
    moved: int = 0


Check: TypeAlias = Callable[[Work], None]


def planned(network: nn.Module, example: Tensor, check: Check = lambda work: None) -> Work:
    """The work for one item, without computing or allocating anything; raises if a module looks at values.

    `check` gets the work so far, again and again, and may raise.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}

    class Planned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(self.network, shapes, (x,))
            return found

    return followed(Planned(), example.to("meta"), check)


def followed(network: nn.Module, example: Tensor, check: Check = lambda work: None) -> Work:
    """The work for one item that is computed; `check` is called before each operation."""
    count = _Count(check)
    hooks = [module.register_forward_hook(count.note) for module in network.modules()]
    try:
        with inference(network), count:
            network(example[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return count.work()


class _Count(TorchDispatchMode):
    def __init__(self, check: Check) -> None:
        super().__init__()
        self.check = check
        self.largest = self.flops = self.moved = 0

    def work(self) -> Work:
        return Work(self.largest, self.flops // 2, self.moved)

    def note(self, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            self.largest = max(self.largest, output.numel())
            self.check(self.work())

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            simpler = func.decompose(*args, **kwargs)
        if simpler is not NotImplemented:
            return simpler
        plan, named = tree_map_only(Tensor, lambda t: torch.empty_like(t, device="meta"), (args, kwargs))
        try:
            output = func(*plan, **(named | {"device": "meta"} if "device" in named else named))
        except Exception:  # its shape depends on values, or it fails in any case
            output = func(*args, **kwargs)
            self._add(func, args, kwargs, output)
            return output
        self._add(func, args, kwargs, output)
        return func(*args, **kwargs)

    def _add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        aliases = [result.alias_info for result in func._schema.returns]
        if any(alias is not None and not alias.is_write for alias in aliases):
            return  # a view
        kind = func._overloadpacket
        if kind in flop_registry:
            self.flops += flop_registry[kind](*args, **kwargs, out_val=output)
        read, written = _values((args, kwargs)), _values(output)
        if (dimensions := _POOLING.get(kind.__name__)) is not None:
            sides = args[1] if isinstance(args[1], list | tuple) else [args[1]]
            read = written * math.prod(sides) ** (dimensions // len(sides))
        self.moved += read + written
        self.check(self.work())


def _values(tree: object) -> int:
    return sum(leaf.numel() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
