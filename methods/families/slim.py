"""One description of a network that is smaller than its reference, by pruning, factorisation or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.bitstream import blueprint
from benchmarks.errors import MethodError
from methods.interface import ModuleSpec, Task


@dataclass(frozen=True)
class Slim:
    """The differences from the reference network: modules by path, shared parameters (path -> the path that is stored), and
    tensors by path. All other tensors are those of the reference.
    """

    edits: Mapping[str, ModuleSpec] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def realise(self, task: Task, reference: nn.Module) -> nn.Module:
        """The network in eval mode on the CPU, with shared parameters tied."""
        network = blueprint.skeleton(task.architecture, task.arguments, self.edits, self.tied)
        blueprint.allocate(network, self.tied)
        dense = blueprint.state(reference)
        with torch.no_grad():
            for name, tensor in blueprint.state(network, self.tied).items():
                tensor.copy_(self.tensors[name] if name in self.tensors else dense[name])
        return network.eval()

    def then(self, later: Slim) -> Slim:
        """This description, then `later`, which changes the resulting network: e.g. prune, then factorise.

        If `later` replaces a module of this description, the tensors and shared parameters of that module are dropped. If a
        dropped path stored a shared tensor, the first remaining path that shares it stores it instead.
        """

        def stays(path: str) -> bool:
            return not any(path == edit or path.startswith(f"{edit}.") for edit in later.edits)

        tied = {path: source for path, source in self.tied.items() if stays(path)}
        heirs: dict[str, str] = {}  # dropped path that stored a shared tensor -> path that stores it now
        for path, source in tied.items():
            if not stays(source):
                heirs.setdefault(source, path)
        if missing := heirs.keys() - self.tensors.keys():
            msg = f"{min(missing)} is shared and replaced, but not among the tensors: name its values, too"
            raise MethodError(msg)
        tied = {path: heirs.get(source, source) for path, source in tied.items() if heirs.get(source) != path}
        tensors = {path: tensor for path, tensor in self.tensors.items() if stays(path)}
        tensors |= {heir: self.tensors[source] for source, heir in heirs.items()}
        return Slim(
            {path: spec for path, spec in self.edits.items() if stays(path)} | dict(later.edits),
            tied | dict(later.tied),
            tensors | dict(later.tensors),
        )
