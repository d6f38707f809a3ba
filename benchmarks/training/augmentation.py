"""Random augmentation of images, drawn on the CPU and applied in batches on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from methods.interface import Augmentation

ALL = slice(None)


def augment(
    inputs: Tensor, how: Augmentation, generator: torch.Generator, of: int | None = None, own: slice = ALL
) -> Tensor:
    """Random crops after zero padding and random flips of uint8 images (B, C, H, W); same shape and device.

    The draws come from a CPU generator, so that CPU and GPU runs use the same crops. If `inputs` are the items `own` of a
    batch of `of`, they get the same crops as in the whole batch. With an empty `how`, inputs of any shape (B, …) are
    returned unchanged. Raises MethodError if `how` is not empty and the inputs are not images.
    """
    if how == Augmentation():
        return inputs
    if inputs.ndim != 4:
        msg = f"inputs of shape {tuple(inputs.shape)} are not images and can't be augmented: set an empty Augmentation"
        raise MethodError(msg)
    batch, (_, height, width) = of or len(inputs), inputs.shape[1:]
    if how.padding:
        reach = 2 * how.padding + 1
        top, left = torch.randint(reach, (2, batch), generator=generator)[:, own].to(inputs.device)
        padded = nn.functional.pad(inputs, (how.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        inputs = windows[torch.arange(len(inputs), device=inputs.device), :, top, left]
    if how.flip:
        flips = torch.rand(batch, generator=generator)[own].to(inputs.device) < 0.5
        inputs = torch.where(flips.view(-1, 1, 1, 1), inputs.flip(3), inputs)
    return inputs
