"""Groups of coupled channels, from torch-pruning's dependency graph.

G. Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023. A shortcut without parameters does not couple channels
here: a channel removed on one side is read as zeros on the other (`surgery`). In the graph it is replaced by a 1×1 convolution.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch_pruning
from torch import Tensor, nn

from benchmarks.errors import MethodError, in_short
from benchmarks.training.batchnorm import conv_bn_pairs
from methods.families.structured.fixed import obstacle
from methods.families.structured.shortcuts import is_shortcut

Side = Literal["out", "in", "norm", "depthwise", "scatter", "fixed"]


@dataclass(frozen=True, eq=False)
class Member:
    """A layer's dimension that shrinks with a group: entry `entries[j]` of it belongs to channel `channels[j]`.

    `side` "out" and "in" are dimensions of a convolution or linear layer, "norm" and "depthwise" are whole layers with a
    value or kernel per channel, "scatter" is a BatchNorm whose channels are scattered back among zeros. A "fixed" layer
    can't shrink (`fixed.obstacle`).
    """

    path: str
    side: Side
    entries: Tensor
    channels: Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that are kept or removed together, named after the first layer that writes them.

    `kind`: "inner" channels have one writer; a "stream" is a sum of several; a "branch" is one writer of a stream.
    """

    name: str
    size: int
    kind: Literal["inner", "stream", "branch"]
    members: tuple[Member, ...]

    def side(self, *sides: Side) -> list[Member]:
        return [member for member in self.members if member.side in sides]


Where = Literal["inner", "branches", "streams"]


def find(network: nn.Module, example: Tensor, where: Where = "inner") -> list[Group]:
    """The groups of a network for inputs like `example` (1, C, H, W), in the order of their layers, without the logits.

    `where`: "inner": only inner groups; "branches": also each writer of a stream with BatchNorm, except the first
    layer; "streams": also whole streams. Groups with a layer that can't be made narrower are left out.
    """
    found = [group for group, _ in dependencies(network, example)]
    if where == "branches":
        order = _layers(network)
        found = sorted([*found, *_branches(network, found)], key=lambda group: order.index(group.name))
    kinds = {"inner": ("inner",), "branches": ("inner", "branch"), "streams": ("inner", "stream")}[where]
    return [group for group in found if group.kind in kinds and not group.side("fixed")]


def dependencies(network: nn.Module, example: Tensor) -> list[tuple[Group, torch_pruning.Group]]:
    """Inner groups and streams, each with torch-pruning's group for a copy of the network.

    Raises MethodError for a network that torch-pruning can't follow.
    """
    stand_in = copy.deepcopy(network).requires_grad_(True).eval()
    order = _layers(network)
    shortcuts = _replace_shortcuts(stand_in, example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unpruned parameters
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(stand_in, example, verbose=False)
            every = list(graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))
        except Exception as error:  # whatever the network does with its channels
            msg = f"channels can't be followed through the network: torch-pruning stops with {in_short(error)}"
            raise MethodError(msg) from error
    paths = {module: path for path, module in stand_in.named_modules()}
    found = []
    for theirs in every:
        items = [item for item in theirs if item.dep.target.module in paths and not _one(item.dep.target.module)]
        members = tuple(_member(paths[item.dep.target.module], item, graph) for item in items)
        written = {member.path for member in members if member.side == "out"}
        writers = sorted(written - shortcuts, key=order.index)
        if writers and any(member.side == "in" for member in members):
            size = 1 + max(int(member.channels.max()) for member in members)
            kind: Literal["inner", "stream"] = "inner" if len(written) == 1 else "stream"
            found.append((Group(writers[0], size, kind, members), theirs))
    return sorted(found, key=lambda pair: order.index(pair[0].name))


def _layers(network: nn.Module) -> list[str]:
    """Paths of convolutions and linear layers."""
    return [path for path, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def _one(module: nn.Module) -> bool:
    """Whether a module has one value for all channels: it stays as it is."""
    return isinstance(module, nn.PReLU) and module.num_parameters == 1


def _replace_shortcuts(network: nn.Module, example: Tensor) -> set[str]:
    """Put a convolution in the place of each parameter-free shortcut; returns their paths."""
    shortcuts = {path: m for path, m in network.named_modules() if is_shortcut(m)}
    sizes: dict[str, int] = {}

    def measure(path: str, x: Tensor) -> None:
        sizes[path] = x.shape[1]

    hooks = [
        network.get_submodule(path).register_forward_pre_hook(lambda _m, x, path=path: measure(path, x[0]))
        for path in shortcuts
    ]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    for path, module in shortcuts.items():
        parent, _, name = path.rpartition(".")
        inputs, outputs = sizes[path], len(module.channel_map(sizes[path]))
        # Zeros add nothing to norms, and no random number is drawn for them.
        projection = nn.utils.skip_init(nn.Conv2d, inputs, outputs, 1, stride=module.stride, bias=False)
        nn.init.zeros_(projection.weight)  # type: ignore[arg-type]
        setattr(network.get_submodule(parent), name, projection)
    return set(shortcuts)


def _member(path: str, item: torch_pruning.Group, graph: torch_pruning.DependencyGraph) -> Member:
    module = item.dep.target.module
    entries, channels = torch.tensor(item.idxs), torch.tensor(item.root_idxs)
    side: Side
    if obstacle(path, module) is not None:
        side = "fixed"
    elif isinstance(module, nn.BatchNorm2d):
        side = "norm"
    elif isinstance(module, nn.Conv2d) and module.groups > 1:
        side = "depthwise"
    else:
        side = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
    return Member(path, side, entries, channels)


def _branches(network: nn.Module, groups: Sequence[Group]) -> list[Group]:
    """A group for each convolution with BatchNorm that writes to a stream, except the first layer."""
    norm_of = conv_bn_pairs(network)
    first = next(iter(_layers(network)))
    found = []
    for group in groups:
        for writer in group.side("out") if group.kind == "stream" else []:
            if writer.path != first and writer.path in norm_of:
                scatter = Member(norm_of[writer.path], "scatter", writer.entries, writer.channels)
                found.append(Group(writer.path, group.size, "branch", (writer, scatter)))
    return found


def all_kept(groups: Sequence[Group]) -> dict[str, Tensor]:
    """True for every channel of every group."""
    return {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}


def counts(keep: Mapping[str, Tensor]) -> dict[str, int]:
    """Kept channels by group."""
    return {name: int(mask.sum()) for name, mask in keep.items()}
