"""Images on disk, indexed as a tensor is: decoded when they are asked for, by threads, those that come next ahead of time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from benchmarks.errors import TaskError
from benchmarks.vision import transforms

View: TypeAlias = Callable[[Image.Image], Tensor]  # to uint8 (3, side, side)
_decoders = ThreadPoolExecutor(os.cpu_count(), "decoder")  # Pillow lets go of the interpreter's lock while it decodes


def centred(side: int, resize: int | None = None) -> View:
    """The middle `side` × `side` pixels, after the shorter side is resized to `resize` (bilinear, antialiased)."""
    steps: list[torch.nn.Module] = [] if resize is None else [transforms.Resize(resize, antialias=True)]
    view: View = transforms.Compose([*steps, transforms.CenterCrop(side), transforms.PILToTensor()])
    return view


def decode(path: Path, view: View) -> Tensor:
    """One image in RGB as a view of it; raises TaskError for a file that is missing or no whole image."""
    try:
        with Image.open(path) as image:
            return view(image.convert("RGB"))
    except UnidentifiedImageError as error:
        msg = f"{path} is no image: put the original file back"
        raise TaskError(msg) from error
    except OSError as error:
        msg = f"can't decode {path} ({error.strerror or error}): put the original file back"
        raise TaskError(msg) from error


class Pictures:
    """What `Split.images` is where a task's images lie on disk: uint8 (n, 3, side, side), given in slices or by indices.

    After a slice, the next one of the same length is decoded ahead. Raises TaskError for a bad file when its turn comes.
    """

    def __init__(self, paths: Sequence[Path], view: View) -> None:
        self._paths, self._view = list(paths), view
        self._device = torch.device("cpu")
        self._ahead: dict[int, Future[Tensor]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def to(self, device: torch.device) -> Pictures:
        """The same images, handed out on another device."""
        moved = Pictures(self._paths, self._view)
        moved._device = device
        return moved

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        places = torch.arange(len(self))[chosen].tolist()
        futures = [self._ahead.pop(i, None) or self._submit(i) for i in places]
        for late in self._ahead.values():
            late.cancel()
        self._ahead.clear()
        if isinstance(chosen, slice) and places:
            following = range(places[-1] + 1, min(len(self), places[-1] + 1 + len(places)))
            self._ahead = {i: self._submit(i) for i in following}
        if not futures:
            msg = "no image was asked for"
            raise IndexError(msg)
        return torch.stack([future.result() for future in futures]).to(self._device)

    def _submit(self, place: int) -> Future[Tensor]:
        return _decoders.submit(decode, self._paths[place], self._view)
