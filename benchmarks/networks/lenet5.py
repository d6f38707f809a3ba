"""LeNet-5 in the form that papers on compression use: 431,080 values (that of Caffe's examples, without its names)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5(nn.Module):
    """Input (N, 1, 28, 28), output (N, 10): two convolutions and two linear layers, ReLU after each but the last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        found: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return found


def lenet5() -> LeNet5:
    return LeNet5()
