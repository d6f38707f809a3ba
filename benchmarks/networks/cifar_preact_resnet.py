"""Pre-activation CIFAR ResNets with 1×1 convolutions as shortcuts where the shape changes (He et al., ECCV 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = (20, 56)
WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """BatchNorm and ReLU before each of two 3×3 convolutions; a 1×1 shortcut starts after the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(y)
        found: Tensor = self.conv2(F.relu(self.bn2(self.conv1(y)))) + shortcut
        return found


class CifarPreactResNet(nn.Module):
    """Input (N, 3, 32, 32), output (N, classes)."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        blocks, inputs = (depth - 2) // 6, WIDTHS[0]
        self.conv1 = nn.Conv2d(3, inputs, 3, 1, 1, bias=False)
        stages: list[nn.Module] = []
        for width in WIDTHS:
            first = Block(inputs, width, 2 if width > inputs else 1)
            stages.append(nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1))))
            inputs = width
        self.layer1, self.layer2, self.layer3 = stages
        self.bn = nn.BatchNorm2d(inputs)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        found: Tensor = self.linear(F.relu(self.bn(x)).mean((2, 3)))
        return found


def cifar_preact_resnet(depth: int, classes: int = 10) -> CifarPreactResNet:
    """Pre-activation ResNet-20 or -56; raises ValueError for another depth or more than 1,000 classes."""
    if depth not in DEPTHS:
        msg = f"depth has to be one of {', '.join(map(str, DEPTHS))}"
        raise ValueError(msg)
    if not isinstance(classes, int) or not 1 <= classes <= 1000:
        raise ValueError("classes has to be between 1 and 1000")
    return CifarPreactResNet(depth, classes)
