"""MobileNet-V1 as in Keras: TensorFlow's "SAME" padding (Howard et al., MobileNets, 2017, table 1)."""

from __future__ import annotations

from torch import Tensor, nn

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
CHANNELS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
WIDTHS = (0.25, 0.5, 0.75, 1.0)


def _normed(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels, eps=1e-3), nn.ReLU6()


def _padded(inputs: int, outputs: int, stride: int, groups: int = 1) -> nn.Sequential:
    """A 3×3 convolution for even sizes: with stride 2, padding is only at the bottom and the right, as in TensorFlow."""
    sides = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
    convolution = nn.Conv2d(inputs, outputs, 3, stride, groups=groups, bias=False)
    return nn.Sequential(nn.ZeroPad2d(sides), convolution, *_normed(outputs))


class Block(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.dw = _padded(inputs, inputs, stride, inputs)
        self.pw = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), *_normed(outputs))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.pw(self.dw(x))
        return found


class MobileNetV1(nn.Module):
    """Input (N, 3, 224, 224) in [−1, 1], output (N, classes)."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        channels = [int(width * c) for c in (32, *CHANNELS)]
        self.conv1 = _padded(3, channels[0], 2)
        sizes = zip(channels, channels[1:], STRIDES, strict=False)
        self.blocks = nn.Sequential(*(Block(inputs, outputs, stride) for inputs, outputs, stride in sizes))
        self.fc = nn.Conv2d(channels[-1], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.blocks(self.conv1(x)).mean((2, 3), keepdim=True)).flatten(1)
        return found


def mobilenet_v1(width: float = 1.0, classes: int = 1000) -> MobileNetV1:
    """The network, untrained; raises ValueError for a width without published weights or more than 100,000 classes."""
    if width not in WIDTHS:
        msg = f"width has to be one of {', '.join(map(str, WIDTHS))}"
        raise ValueError(msg)
    if not isinstance(classes, int) or not 1 <= classes <= 100_000:
        raise ValueError("classes has to be between 1 and 100,000")
    return MobileNetV1(width, classes)
