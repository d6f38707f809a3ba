"""DenseNet-40 with growth rate 12 for 32×32 images, without bottlenecks and compression (Huang et al., CVPR 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = (40,)
GROWTH, STAGES = 12, 3


class Layer(nn.Module):
    """BatchNorm, ReLU and a 3×3 convolution; its GROWTH outputs follow its inputs."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, GROWTH, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.bn(x)))], 1)


class Transition(nn.Module):
    """BatchNorm, ReLU and a 1×1 convolution with as many outputs as inputs, then an average of 2×2 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class CifarDenseNet(nn.Module):
    """Input (N, 3, 32, 32), output (N, classes): three dense stages with a transition between each two."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        channels = 2 * GROWTH
        self.conv = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        stages: list[nn.Module] = []
        for stage in range(STAGES):
            if stage:
                stages.append(Transition(channels))
            count = (depth - 4) // STAGES
            stages.append(nn.Sequential(*(Layer(channels + GROWTH * number) for number in range(count))))
            channels += GROWTH * count
        self.stages = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stages(self.conv(x))))
        found: Tensor = self.linear(x.mean((2, 3)))
        return found


def cifar_densenet(depth: int, classes: int = 10) -> CifarDenseNet:
    """DenseNet-40; raises ValueError for another depth or more than 1,000 classes."""
    if depth not in DEPTHS:
        raise ValueError("depth has to be 40")
    if not isinstance(classes, int) or not 1 <= classes <= 1000:
        raise ValueError("classes has to be between 1 and 1000")
    return CifarDenseNet(depth, classes)
