"""VGG-16/19 with BatchNorm for 32×32 images: the convolutions of Simonyan & Zisserman (ICLR 2015) and one linear layer.

This is the form that papers on compression use for CIFAR: VGG-16 has 14.7 million weights and 313 million multiply-accumulates.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # in each stage


class CifarVGG(nn.Module):
    """Input (N, 3, 32, 32), output (N, classes); each stage ends in a max-pooling, the last one at 1×1."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width, count in zip(WIDTHS, CONVOLUTIONS[depth], strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return found


def cifar_vgg(depth: int, classes: int = 10) -> CifarVGG:
    """VGG-16 or VGG-19; raises ValueError for another depth or more than 1,000 classes."""
    if depth not in CONVOLUTIONS:
        msg = f"depth has to be one of {', '.join(map(str, CONVOLUTIONS))}"
        raise ValueError(msg)
    if not isinstance(classes, int) or not 1 <= classes <= 1000:
        raise ValueError("classes has to be between 1 and 1000")
    return CifarVGG(depth, classes)
