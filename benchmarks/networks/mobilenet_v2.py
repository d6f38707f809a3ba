"""MobileNet-V2 of torchvision (Sandler et al., CVPR 2018)."""

from __future__ import annotations

from torch import nn

import benchmarks.data.vision  # noqa: F401  # makes torchvision importable


def mobilenet_v2(classes: int = 1000) -> nn.Module:
    """Input (N, 3, 224, 224), output (N, classes); parameter names are torchvision's. Raises ValueError for bad classes."""
    from torchvision import models

    if not isinstance(classes, int) or not 1 <= classes <= 100_000:
        raise ValueError("classes has to be between 1 and 100,000")
    network: nn.Module = models.mobilenet_v2(num_classes=classes)
    return network
