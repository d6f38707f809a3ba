"""CIFAR ResNets with option-A shortcuts (He et al., Deep Residual Learning for Image Recognition, CVPR 2016, §4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = (20, 32, 44, 56, 110)
WIDTHS = (16, 32, 64)


class Shortcut(nn.Module):
    """Option A: every second pixel, and `channels` channels of zeros on both sides; no parameters."""

    stride = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.channels, self.channels))

    def channel_map(self, inputs: int) -> Tensor:
        """(outputs,): for each output channel the input channel that it copies, or `inputs` for zeros."""
        return F.pad(torch.arange(inputs), (self.channels, self.channels), value=inputs)


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = Shortcut((outputs - inputs) // 2) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Input (N, 3, 32, 32), output (N, classes); parameter names are those of the public `akamaster` checkpoints."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = stage(WIDTHS[0], WIDTHS[0], blocks, 1)
        self.layer2 = stage(WIDTHS[0], WIDTHS[1], blocks, 2)
        self.layer3 = stage(WIDTHS[1], WIDTHS[2], blocks, 2)
        self.linear = nn.Linear(WIDTHS[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width; the first has the stride."""
    later = (Block(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(Block(inputs, outputs, stride), *later)


def cifar_resnet(depth: int, classes: int = 10) -> CifarResNet:
    """ResNet-20/32/44/56/110 for 32×32 images; raises ValueError for another depth or more than 1,000 classes."""
    if depth not in DEPTHS:
        msg = f"depth has to be one of {', '.join(map(str, DEPTHS))}"
        raise ValueError(msg)
    if not isinstance(classes, int) or not 1 <= classes <= 1000:
        raise ValueError("classes has to be between 1 and 1000")
    return CifarResNet(depth, classes)
