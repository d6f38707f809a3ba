"""Running a network repeatedly on the same images, each time from its first changed layer on."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

# Bytes of stored outputs, for the accepted and for the latest run each. ResNet-56 needs half of that for 500 images.
LIMIT = 2**30


class Resumed:
    """Replaces the parts of a network before its first change by their stored outputs for `images` images.

    Parts are the network's modules; an nn.Sequential counts as its children. A part may change its input in place only if
    repeating it has no effect, like ReLU.
    """

    def __init__(self, images: int, limit: int = LIMIT) -> None:
        self._images, self._limit = images, limit
        self._accepted: Mapping[str, Sequence[Tensor]] = {}  # batches by path, in execution order
        self._latest: dict[str, list[Tensor]] = {}

    @contextmanager
    def since(self, changed: Collection[str] | None, network: nn.Module) -> Iterator[None]:
        """A context in which `network` runs from its first `changed` layer (paths) on; the others equal the accepted ones.

        None: any layer may have changed. All images go through the network once, always in the same batches. Layers that do
        not run are not touched: BatchNorm keeps its statistics, and they are not moved to another device.
        """
        same = itertools.takewhile(lambda part: not _holds(part[0], changed), self._accepted.items())
        known = {} if changed is None else {path: batches for path, batches in same if batches}
        modules = {path: network.get_submodule(path) for path in known}
        for path, batches in known.items():
            network.set_submodule(path, _Replay(batches))
        self._latest, room = {}, self._limit
        fitting = set()

        def note(path: str, output: Tensor) -> None:
            nonlocal room
            size = output.nbytes // len(output) * self._images
            if path not in self._latest and size <= room:
                fitting.add(path)
                room -= size
            noted = self._latest.setdefault(path, [])
            if path in fitting:
                noted.append(output)

        hooks = [
            part.register_forward_hook(lambda _m, _x, output, path=path: note(path, output))
            for path, part in _parts(network)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for path, module in modules.items():
                network.set_submodule(path, module)

    def accept(self) -> None:
        """Later changes are relative to the network that ran last."""
        whole = {path: sum(map(len, batches)) == self._images for path, batches in self._latest.items()}
        self._accepted = {path: batches if whole[path] else [] for path, batches in self._latest.items()}


class _Replay(nn.Module):
    """Returns the stored batches one after the other, regardless of its input."""

    def __init__(self, batches: Sequence[Tensor]) -> None:
        super().__init__()
        self._batches = iter(batches)

    def forward(self, _: Tensor) -> Tensor:
        return next(self._batches)


def _parts(network: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_children():
        if isinstance(module, nn.Sequential):
            yield from _parts(module, f"{path}{name}.")
        else:
            yield path + name, module


def _holds(part: str, layers: Collection[str]) -> bool:
    return any(layer == part or layer.startswith(f"{part}.") for layer in layers)
