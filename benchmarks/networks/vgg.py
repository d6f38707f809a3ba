"""VGG-11/13/16/19 of torchvision, with or without BatchNorm (Simonyan & Zisserman, ICLR 2015)."""

from __future__ import annotations

from torch import nn

import benchmarks.data.vision  # noqa: F401  # makes torchvision importable

DEPTHS = (11, 13, 16, 19)


def vgg(depth: int, norm: bool = True, classes: int = 1000) -> nn.Module:
    """Input (N, 3, 224, 224), output (N, classes); parameter names are torchvision's.

    Raises ValueError for another depth or more than 100,000 classes.
    """
    from torchvision import models

    if depth not in DEPTHS or not isinstance(norm, bool):
        msg = f"depth has to be one of {', '.join(map(str, DEPTHS))}, norm true or false"
        raise ValueError(msg)
    if not isinstance(classes, int) or not 1 <= classes <= 100_000:
        raise ValueError("classes has to be between 1 and 100,000")
    network: nn.Module = getattr(models, f"vgg{depth}{'_bn' if norm else ''}")(num_classes=classes)
    return network
