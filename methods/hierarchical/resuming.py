"""Running a network again and again on the same images, each time from the first change on."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

# Bytes of outputs that are kept of a run: of the accepted one, and of the latest. ResNet-56 has half of that for 500 images.
LIMIT = 2**30


class Resumed:
    """What the parts of a network put out for `images` images stands in for those parts that run before any change.

    Parts are the network's modules, those of an nn.Sequential one by one. Into its input a part may write only what it would
    write again, as a rectifier does.
    """

    def __init__(self, images: int, limit: int = LIMIT) -> None:
        self._images, self._limit = images, limit
        self._accepted: Mapping[str, Sequence[Tensor]] = {}  # batches by path, in the order in which parts run
        self._latest: dict[str, list[Tensor]] = {}

    @contextmanager
    def since(self, changed: Collection[str] | None, network: nn.Module) -> Iterator[None]:
        """Within this, `network` runs from the first of its `changed` layers (paths) on; in all others it is the accepted one.

        None: any may have changed. All images go through it once, always in the same batches. What does not run is out of
        its sight: BatchNorm there keeps its statistics, and nothing of it moves to another device.
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
        """From now on changes are to the network that ran last."""
        whole = {path: sum(map(len, batches)) == self._images for path, batches in self._latest.items()}
        self._accepted = {path: batches if whole[path] else [] for path, batches in self._latest.items()}


class _Replay(nn.Module):
    """Puts out one batch after the other, whatever it is given."""

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
