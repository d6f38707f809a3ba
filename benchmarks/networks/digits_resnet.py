"""A small ResNet for 8×8 images (`digits`), with the repeated blocks that joint and structured methods need."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.networks.cifar_resnet import stage


class DigitsResNet(nn.Module):
    """Input (N, 1, 8, 8), output (N, classes); names are those of the CIFAR ResNets."""

    def __init__(self, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(width, width, 1, 1)
        self.layer2 = stage(width, 2 * width, blocks, 2)
        self.layer3 = stage(2 * width, 4 * width, blocks, 2)
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def digits_resnet(width: int = 8, blocks: int = 3, classes: int = 10) -> DigitsResNet:
    """Stages of 1, `blocks` and `blocks` blocks with width, 2·width and 4·width channels."""
    if not all(isinstance(n, int) and 1 <= n <= limit for n, limit in ((width, 64), (blocks, 18), (classes, 1000))):
        raise ValueError("width has to be between 1 and 64, blocks between 1 and 18, classes between 1 and 1000")
    return DigitsResNet(width, blocks, classes)
