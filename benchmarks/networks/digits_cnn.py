"""A small BatchNorm CNN for 8×8 images: the reference of the embedded `digits` task."""

from __future__ import annotations

from torch import nn


def digits_cnn(width: int = 16, classes: int = 10) -> nn.Sequential:
    """Input (N, 1, 8, 8), output (N, classes); three 3×3 convolutions of width, 2·width and 2·width channels."""
    if not isinstance(width, int) or not 1 <= width <= 256 or not isinstance(classes, int) or not 1 <= classes <= 1000:
        raise ValueError("width has to be between 1 and 256, classes between 1 and 1000")
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes),
    )
