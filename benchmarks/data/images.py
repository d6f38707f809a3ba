"""Images on disk, indexed like a tensor: threads decode the images that are requested, and the next ones in advance."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from benchmarks import seeds
from benchmarks.data.vision import transforms
from benchmarks.errors import TaskError, first_line

View: TypeAlias = Callable[[Image.Image, torch.Generator], Tensor]  # to uint8 (3, side, side)


def cores() -> int:
    """The number of cores for this process: those that it may use, divided by the processes of its `torchrun`."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


_decoders = ThreadPoolExecutor(cores(), "decoder")  # Pillow releases the interpreter's lock while it decodes


def centred(side: int, resize: int | None = None) -> View:
    """The middle `side` × `side` pixels, after the shorter side is resized to `resize` (bilinear, antialiased)."""
    steps: list[torch.nn.Module] = [] if resize is None else [transforms.Resize(resize, antialias=True)]
    middle = transforms.Compose([*steps, transforms.CenterCrop(side), transforms.PILToTensor()])
    return lambda image, _: middle(image)


def cropped(side: int, smallest: float = 0.08) -> View:
    """A random crop, resized to `side` × `side` (Szegedy et al., CVPR 2015).

    It has at least `smallest` of the area, and an aspect ratio from 3:4 to 4:3.
    """

    def view(image: Image.Image, generator: torch.Generator) -> Tensor:
        place = _part(image.height, image.width, smallest, generator)
        cut: Tensor = transforms.functional.resized_crop(image, *place, [side, side], antialias=True)
        return transforms.functional.pil_to_tensor(cut)

    return view


def _part(height: int, width: int, smallest: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random crop; the middle if ten tries do not fit, as in torchvision."""
    for area, form, down, right in torch.rand(10, 4, generator=generator).tolist():
        ratio = math.exp((2 * form - 1) * math.log(4 / 3))
        size = (smallest + (1 - smallest) * area) * height * width
        h, w = round(math.sqrt(size / ratio)), round(math.sqrt(size * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


def decode(path: Path, view: View, seed: int = 0) -> Tensor:
    """A view of one image in RGB; raises TaskError if the file can't be read, is huge, or is not a complete image."""
    try:
        with Image.open(path) as image:
            colours = image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise any exception for damaged files
        raise TaskError(_complaint(path, error)) from error
    return view(colours, torch.Generator().manual_seed(seed))


def _complaint(path: Path, error: Exception) -> str:
    """Why an image can't be decoded, and what to do about it."""
    if isinstance(error, UnidentifiedImageError):
        return f"{path} is no image: replace it by the data set's own file"
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"{path} has more than {most:,} pixels, the limit of Pillow: replace it by the data set's own file"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
        return f"can't read {path}: {getattr(error, 'strerror', None) or 'memory is insufficient'}"
    return f"{path} is a damaged image ({first_line(error)}): replace it by the data set's own file"


class Pictures:
    """`Split.inputs` of tasks whose images are on disk: uint8 (n, 3, side, side), read by slices or indices.

    `view` makes the view of an image for evaluation, `drawn` a random view for training; `epoch` draws the random views with
    its seed. When a slice is read, the next one of the same length is decoded ahead. Reading a bad file raises TaskError.
    """

    def __init__(
        self, paths: Sequence[Path], view: View, drawn: View | None = None, seed: int = 0, order: Sequence[int] = ()
    ) -> None:
        self._paths, self._view, self._drawn, self._seed = paths, view, drawn or view, seed
        self.device = torch.device("cpu")
        self._order, self._done = order, 0
        self._ahead: dict[int, Future[Tensor]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def to(self, device: torch.device) -> Pictures:
        """The same images, returned on another device."""
        moved = Pictures(self._paths, self._view, self._drawn, self._seed, self._order)
        moved.device = device
        return moved

    def epoch(self, order: Tensor, seed: int) -> Pictures:
        """The same images in random views drawn with `seed`; batches that follow `order` are decoded ahead."""
        return Pictures(self._paths, self._drawn, self._drawn, seed, order.tolist()).to(self.device)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        places = torch.arange(len(self))[chosen.cpu() if isinstance(chosen, Tensor) else chosen].tolist()
        if not places:
            msg = "no image was asked for"
            raise IndexError(msg)
        futures = [self._ahead.pop(place, None) or self._submit(place) for place in places]
        for late in self._ahead.values():
            late.cancel()
        self._ahead = {place: self._submit(place) for place in self._following(chosen, places)}
        return torch.stack([future.result() for future in futures]).to(self.device)

    def _following(self, chosen: slice | Tensor, places: list[int]) -> Sequence[int]:
        """The indices that will be read next."""
        if isinstance(chosen, slice):
            return range(places[-1] + 1, min(len(self), places[-1] + 1 + len(places)))
        self._done += len(places)
        return self._order[self._done : self._done + len(places)]

    def _submit(self, place: int) -> Future[Tensor]:
        return _decoders.submit(decode, self._paths[place], self._view, seeds.derive("view", self._seed, place))
