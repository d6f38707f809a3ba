"""Physical pruning: makes a narrower network from a dense network and the channels to keep, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.bitstream import blueprint
from benchmarks.bitstream.modules import avg_pool2d, batch_norm2d, conv2d, gather, identity, linear, sequential
from benchmarks.errors import MethodError
from methods.families.slim import Slim
from methods.families.structured.channels import Group, Member
from methods.families.structured.shortcuts import Shortcut, is_shortcut
from methods.interface import ModuleSpec, Task


@dataclass(frozen=True, eq=False)
class Plan:
    """How a narrower network is made from the dense one.

    `edits` are its modules; `sources` gives, for each of its tensors that was cut, the dense tensor's name and the entries
    kept of its first two dimensions (None: all); `indices` are its new tensors: the sources of gathered channels.
    """

    edits: Mapping[str, ModuleSpec]
    sources: Mapping[str, tuple[str, Tensor | None, Tensor | None]]
    indices: Mapping[str, Tensor]

    def slim(self, dense: nn.Module) -> Slim:
        """The narrower network, with the dense one's values."""
        values = blueprint.state(dense)
        cut = {name: _select(values[source].detach(), *kept) for name, (source, *kept) in self.sources.items()}
        return Slim(self.edits, tensors={**self.indices, **cut})


def plan(
    network: nn.Module,
    groups: Sequence[Group],
    keep: Mapping[str, Tensor],
    blocks: Mapping[str, Sequence[str]] = {},
) -> Plan:
    """Plan the surgery for `keep`: a mask (size,) by the name of each group.

    A block of `blocks` (`blocks.find`) is removed if none of its channels is kept. Raises MethodError if another group
    keeps none.
    """
    gone = {path for path, inside in blocks.items() if not any(keep[name].any() for name in inside)}
    lost = {name for path in gone for name in blocks[path]}
    edits = {path: identity.spec() for path in sorted(gone)}
    sources: dict[str, tuple[str, Tensor | None, Tensor | None]] = {}
    indices: dict[str, Tensor] = {}
    for path, sides in _kept([group for group in groups if group.name not in lost], keep).items():
        if any(path.startswith(f"{block}.") for block in gone):
            continue
        module = network.get_submodule(path)
        rows, columns = sides.get("out"), sides.get("in")
        if is_shortcut(module):
            edits[path], indices[f"{path}.1.index"] = _gathered(module, groups, path, rows, columns)
        elif "scatter" in sides:
            edits[path], indices[f"{path}.1.index"] = _scattered(module, sides["scatter"])
            sources |= _cut(path, f"{path}.0", module, sides["scatter"], None)
        else:
            rows = sides.get("norm", sides.get("depthwise", rows))
            edits[path] = _narrower(module, rows, columns)
            sources |= _cut(path, path, module, rows, columns)
    return Plan(edits, sources, indices)


def _kept(groups: Sequence[Group], keep: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The kept entries, sorted, by path and side, of layers that lose some."""
    found: dict[str, dict[str, Tensor]] = {}
    for group in groups:
        mask = keep[group.name]
        if not mask.any():
            msg = f"all channels of {group.name} would be removed: keep at least one"
            raise MethodError(msg)
        if not mask.all():
            for member in group.members:
                found.setdefault(member.path, {})[member.side] = _entries(member, mask)
    return found


def _entries(member: Member, mask: Tensor) -> Tensor:
    return member.entries[mask[member.channels]].sort().values


def _narrower(module: nn.Module, rows: Tensor | None, columns: Tensor | None) -> ModuleSpec:
    if isinstance(module, nn.BatchNorm2d):
        assert rows is not None
        return batch_norm2d.spec(len(rows), eps=module.eps)
    if isinstance(module, nn.Linear):
        return linear.spec(
            module.in_features if columns is None else len(columns),
            module.out_features if rows is None else len(rows),
            bias=module.bias is not None,
        )
    assert isinstance(module, nn.Conv2d)
    outputs = module.out_channels if rows is None else len(rows)
    inputs = module.in_channels if columns is None else len(columns)
    depthwise = module.groups > 1
    return conv2d.spec(
        outputs if depthwise else inputs,
        outputs,
        kernel_size=module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=outputs if depthwise else 1,
        bias=module.bias is not None,
    )


def _cut(
    path: str, new: str, module: nn.Module, rows: Tensor | None, columns: Tensor | None
) -> dict[str, tuple[str, Tensor | None, Tensor | None]]:
    """Where the tensors of a narrower module come from; vectors have one value per output."""
    tensors = blueprint.state(module)
    return {f"{new}.{n}": (f"{path}.{n}", rows, columns if t.ndim > 1 else None) for n, t in tensors.items()}


def _places(kept: Tensor, size: int) -> Tensor:
    """For each of `size` channels its index among the kept ones; len(kept), a zero channel, if removed."""
    places = torch.full((size,), len(kept))
    places[kept] = torch.arange(len(kept))
    return places


def _scattered(module: nn.Module, kept: Tensor) -> tuple[ModuleSpec, Tensor]:
    assert isinstance(module, nn.BatchNorm2d)
    norm = batch_norm2d.spec(len(kept), eps=module.eps)
    return sequential.spec(norm, gather.spec(module.num_features)), _places(kept, module.num_features)


def _gathered(
    shortcut: Shortcut, groups: Sequence[Group], path: str, rows: Tensor | None, columns: Tensor | None
) -> tuple[ModuleSpec, Tensor]:
    """A shortcut from the kept channels of its input to the kept channels of its output."""
    inputs = next((g.size for g in groups if any(m.path == path for m in g.side("in"))), None)
    if inputs is None:
        msg = f"shortcut {path} reads channels that are in no group: what it copies to can't be made narrower"
        raise MethodError(msg)
    places = torch.arange(inputs) if columns is None else _places(columns, inputs)
    zero = inputs if columns is None else len(columns)
    origins = torch.cat([places, torch.tensor([zero])])[shortcut.channel_map(inputs)]
    origins = origins if rows is None else origins[rows]
    subsample = avg_pool2d.spec(kernel_size=1, stride=shortcut.stride)
    return sequential.spec(subsample, gather.spec(len(origins))), origins


@torch.no_grad()
def widen(task: Task, network: nn.Module, cut: Plan) -> nn.Module:
    """The dense network with the narrower one's values, and zeros for weights, scales and shifts that were removed.

    It computes the same function, except where a parameter-free shortcut bypasses a stage whose stream was cut.
    """
    dense = blueprint.skeleton(task.architecture, task.arguments, {}, {})
    blueprint.allocate(dense, {})
    tensors = blueprint.state(dense)
    for name, tensor in tensors.items():
        tensor.fill_(1.0 if name.endswith("running_var") else 0.0)
    for name, tensor in blueprint.state(network).items():
        if name not in cut.indices:
            source, rows, columns = cut.sources.get(name, (name, None, None))
            target = tensors[source]
            if rows is None and columns is None:
                target.copy_(tensor)
                continue
            rows = torch.arange(len(target)) if rows is None else rows
            if columns is None:
                target[rows] = tensor
            else:
                target[rows[:, None], columns] = tensor
    return dense.eval()


def _select(tensor: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    tensor = tensor if rows is None else tensor[rows]
    return tensor if columns is None else tensor[:, columns]
