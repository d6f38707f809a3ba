"""From decisions to a network: gathered input channels, pairs of convolutions, and no filter that nobody reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.bitstream.modules import conv2d, gather, sequential
from benchmarks.errors import MethodError
from methods.cc.steps import Decision
from methods.families import storage
from methods.families.slim import Slim
from methods.families.structured import Group, analyse, cost
from methods.families.structured.channels import counts
from methods.families.structured.cost import Cost
from methods.families.structured.fixed import check_hooks
from methods.families.structured.shortcuts import is_shortcut
from methods.families.structured.surgery import Plan, plan
from methods.interface import ModuleSpec, Run, Task


def compressible(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Ordinary convolutions by path, without the first and the last layer of the network (official code).

    Grouped convolutions are not compressed, nor those padded with other values than zeros.
    """
    layers = storage.layers(network)
    found = {path: layer for path, layer in list(layers.items())[1:-1] if isinstance(layer, nn.Conv2d)}
    return {path: m for path, m in found.items() if m.groups == 1 and m.padding_mode == "zeros"}


@dataclass(frozen=True, eq=False)
class Frame:
    """The convolutions of a task's network that are compressed, its cost, and the groups of channels that can disappear."""

    task: Task
    layers: Mapping[str, nn.Conv2d]
    groups: Sequence[Group]
    cost: Cost

    @property
    def dense(self) -> int:
        return self.cost.macs({group.name: group.size for group in self.groups})

    def places(self, path: str) -> int:
        """The output places of one image."""
        layer = self.cost.layers[path]
        height, width = self.layers[path].kernel_size
        return layer.unit // (height * width)

    def alive(self, decisions: Mapping[str, Decision]) -> dict[str, Tensor]:
        """By group, the channels (mask) that at least one layer reads."""
        found = {}
        for group in self.groups:
            read = torch.zeros(group.size, dtype=torch.bool)
            for member in group.side("in"):
                kept = decisions[member.path].kept if member.path in decisions else None
                used = torch.ones(len(member.entries), dtype=torch.bool) if kept is None else kept[member.entries]
                read[member.channels[used]] = True
            found[group.name] = read
        return found

    def macs(self, decisions: Mapping[str, Decision]) -> int:
        """Multiply-accumulates of the network that `realised` makes, without making it."""
        left = counts(self.alive(decisions))
        sizes = self._sizes(decisions, left)
        return sum(
            self.places(path) * sizes[path][0] if path in sizes else layer.macs(left)
            for path, layer in self.cost.layers.items()
        )

    def ranks(self, decisions: Mapping[str, Decision]) -> dict[str, int | None]:
        """The rank of each layer's pair of convolutions; None for one convolution."""
        return {path: rank for path, (_, rank) in self._sizes(decisions, counts(self.alive(decisions))).items()}

    def _sizes(self, decisions: Mapping[str, Decision], left: Mapping[str, int]) -> dict[str, tuple[int, int | None]]:
        found = {}
        for path, decision in decisions.items():
            name, outputs = self.cost.layers[path].outputs
            found[path] = _values(self.layers[path], outputs * (1 if name is None else left[name]), decision)
        return found

    def plan(self, network: nn.Module, decisions: Mapping[str, Decision]) -> Plan:
        """The surgery that removes the filters that no layer reads."""
        return plan(network, self.groups, self.alive(decisions))

    def _there(self, path: str, alive: Mapping[str, Tensor]) -> Tensor:
        """The input channels (mask) of a layer that its narrower version still gets."""
        found = torch.ones(self.layers[path].in_channels, dtype=torch.bool)
        for group in self.groups:
            for member in group.side("in"):
                if member.path == path:
                    found[member.entries] = alive[group.name][member.channels]
        return found

    def realised(self, network: nn.Module, decisions: Mapping[str, Decision]) -> Slim:
        """The description of the compressed network.

        The decomposition is that of the kept channels' original weights, with the largest singular values; only their number
        comes from the decision. A pair that costs as much as one convolution is not made.
        """
        alive = self.alive(decisions)
        narrower = self.plan(network, decisions).slim(network)
        thin = narrower.realise(self.task, network)
        edits: dict[str, ModuleSpec] = {}
        tensors: dict[str, Tensor] = {}
        for path, decision in decisions.items():
            layer = thin.get_submodule(path)
            assert isinstance(layer, nn.Conv2d)
            kept = decision.kept[self._there(path, alive)]
            rank = _values(layer, layer.out_channels, decision)[1]
            if rank is not None or not kept.all():
                edits[path], own = _replaced(layer, kept, rank)
                tensors |= {f"{path}.{name}": tensor for name, tensor in own.items()}
        return narrower.then(Slim(edits, tensors=tensors))


def frame(task: Task, run: Run) -> Frame:
    """Raises MethodError if there is no convolution to compress."""
    storage.check_names(task)
    network = task.reference()
    check_hooks(network)
    layers = compressible(network)
    if not layers:
        msg = f"{task.network} has no ordinary convolution between its first and its last layer"
        raise MethodError(msg)
    try:
        prunable = analyse(task)
    except MethodError as error:  # no channel can disappear; layers still read fewer channels
        run.progress(f"filters stay although no layer reads them: {error}")
        return Frame(task, layers, [], cost.measure(network, [], task.prepare(task.calibration(1).inputs)))
    groups = [g for g in prunable.groups if not any(is_shortcut(network.get_submodule(m.path)) for m in g.members)]
    return Frame(task, layers, groups, prunable.cost)


def _values(layer: nn.Conv2d, outputs: int, decision: Decision) -> tuple[int, int | None]:
    """The values of a layer's weights after a decision, and the rank of its pair: None if that would not be smaller."""
    inputs = int(decision.kept.sum()) * layer.kernel_size[0] * layer.kernel_size[1]
    pair = None if decision.rank is None else decision.rank * (inputs + outputs)
    return (inputs * outputs, None) if pair is None or pair >= inputs * outputs else (pair, decision.rank)


@torch.no_grad()
def _replaced(layer: nn.Conv2d, kept: Tensor, rank: int | None) -> tuple[ModuleSpec, dict[str, Tensor]]:
    """A layer that reads its `kept` input channels (mask), as one convolution or as a pair; and its tensors.

    The first of a pair has the layer's window, the second is 1×1 and has the bias; both have √S.
    """
    weight = layer.weight.detach()[:, kept]
    children, tensors = list[ModuleSpec](), dict[str, Tensor]()
    if not kept.all():
        children.append(gather.spec(weight.shape[1]))
        tensors["0.index"] = kept.nonzero()[:, 0]
    bias = layer.bias is not None
    if rank is None:
        pieces = [(weight, bias)]
    else:
        u, s, v = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
        root = s[:rank].sqrt()
        first = (root[:, None] * v[:rank]).float().reshape(rank, *weight.shape[1:])
        pieces = [(first, False), ((u[:, :rank] * root).float()[:, :, None, None], bias)]
    for place, (kernel, biased) in enumerate(pieces):
        outputs, inputs = kernel.shape[:2]
        if place == 0:
            spec = conv2d.spec(
                inputs,
                outputs,
                kernel_size=layer.kernel_size,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
                bias=biased,
            )
        else:
            spec = conv2d.spec(inputs, outputs, kernel_size=1, bias=biased)
        tensors[f"{len(children)}.weight"] = kernel
        if biased and layer.bias is not None:
            tensors[f"{len(children)}.bias"] = layer.bias.detach()
        children.append(spec)
    return sequential.spec(*children), tensors
