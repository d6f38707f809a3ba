"""ResNet-18/34/50/101 of torchvision (He et al., CVPR 2016; the stride of a bottleneck is in its 3×3 convolution)."""

from __future__ import annotations

from typing import Literal

from torch import nn

import benchmarks.data.vision  # noqa: F401  # makes torchvision importable

DEPTHS = (18, 34, 50, 101)


def resnet(depth: int, classes: int = 1000, stem: Literal["imagenet", "cifar"] = "imagenet") -> nn.Module:
    """Output (N, classes). The `cifar` stem is one 3×3 convolution of stride 1 for (N, 3, 32, 32), without pooling.

    Parameter names are torchvision's. Raises ValueError for another depth or stem, or more than 100,000 classes.
    """
    from torchvision import models

    if depth not in DEPTHS or stem not in ("imagenet", "cifar"):
        msg = f"depth has to be one of {', '.join(map(str, DEPTHS))} and stem imagenet or cifar"
        raise ValueError(msg)
    if not isinstance(classes, int) or not 1 <= classes <= 100_000:
        raise ValueError("classes has to be between 1 and 100,000")
    network: nn.Module = getattr(models, f"resnet{depth}")(num_classes=classes)
    if stem == "cifar":
        network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
    return network
