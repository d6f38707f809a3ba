"""The cost polynomials of the official code, from which the published widths follow.

One variable for each width in the code's configurations. Besides multiply-accumulates they count BatchNorm, ReLU and pooling
of some networks, with the slips of the code: otherwise its widths would be others. `blocks` has that of CIFAR ResNets.
"""

from __future__ import annotations

import itertools

from methods.itpruner.polynomial import Polynomial

__fingerprint__ = False  # only tests and the accounting read it

BLOCKS_50 = (3, 4, 6, 3)  # of ResNet-50, by stage
MOBILENET_V1 = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
HALVED_V1 = (2, 4, 6, 12)  # the blocks that halve the image
MOBILENET_V2 = (32, 16, 24, 32, 64, 96, 160, 320)
STAGES_V2 = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))  # expansion, blocks, stride
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def resnet50(as_printed: bool = True) -> Polynomial:
    """37 widths: the stem; of each stage conv1, conv2 and the output of the first block, then conv1 and conv2 of the others.

    The code counts the first convolution of stage 1 at twice the image's size, and the classifier with the last width
    instead of the last stream's. Without `as_printed`, F are the multiply-accumulates of the network.
    """
    widths = [64]
    for blocks, width in zip(BLOCKS_50, (64, 128, 256, 512), strict=True):
        widths += [width, width, 4 * width, *[width] * (2 * (blocks - 1))]
    found = Polynomial(widths)

    def convolution(inputs: int | None, outputs: int, kernel: int, size: int) -> None:
        channels = 3 if inputs is None else widths[inputs]
        found.add(kernel**2 * channels * widths[outputs] * size**2, inputs, outputs)
        if as_printed:
            found.add(5 * widths[outputs] * size**2, outputs)

    convolution(None, 0, 7, 112)
    if as_printed:
        found.add(9 * widths[0] * 56**2, 0)
    source, first, size = 0, 1, 56
    for stage, blocks in enumerate(BLOCKS_50):
        stream, size = first + 2, size if stage == 0 else size // 2
        convolution(source, stream, 1, size)
        convolution(source, first, 1, 2 * size if stage or as_printed else size)
        convolution(first, first + 1, 3, size)
        convolution(first + 1, stream, 1, size)
        for inner in range(stream + 1, stream + 1 + 2 * (blocks - 1), 2):
            convolution(stream, inner, 1, size)
            convolution(inner, inner + 1, 3, size)
            convolution(inner + 1, stream, 1, size)
        source, first = stream, stream + 1 + 2 * (blocks - 1)
    if as_printed:
        found.add((2 * widths[-1] + 1) * 1000, len(widths) - 1)
    else:
        found.add(1000 * widths[source], source)
    return found


def mobilenet_v1() -> Polynomial:
    """14 widths: the stem and the outputs of 13 depthwise-separable blocks."""
    found = Polynomial(MOBILENET_V1)
    size = 112
    found.add(27 * MOBILENET_V1[0] * size**2, 0)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(MOBILENET_V1), start=1):
        size = size // 2 if i in HALVED_V1 else size
        found.add(9 * inputs * size**2, i - 1)
        found.add(inputs * outputs * size**2, i - 1, i)
    found.add(2 * MOBILENET_V1[-1] * 1000, len(MOBILENET_V1) - 1)
    return found


def mobilenet_v2() -> Polynomial:
    """8 widths: the stem and the outputs of 7 stages; an expansion is a multiple of its input."""
    found = Polynomial(MOBILENET_V2)
    size = 112
    found.add(27 * MOBILENET_V2[0] * size**2, 0)
    for stage, (expansion, blocks, stride) in enumerate(STAGES_V2):
        for block in range(blocks):
            source = stage if block == 0 else stage + 1
            inputs, outputs = MOBILENET_V2[source], MOBILENET_V2[stage + 1]
            if expansion > 1:
                found.add(expansion * inputs**2 * size**2, source, source)
            size = size // stride if block == 0 else size
            found.add(9 * expansion * inputs * size**2, source)
            found.add(expansion * inputs * outputs * size**2, source, stage + 1)
    found.add(MOBILENET_V2[-1] * 1280 * size**2, len(MOBILENET_V2) - 1)
    return found


def vgg16() -> Polynomial:
    """The 13 convolutions of VGG-16 for CIFAR; the classifier has a hidden layer of 512 units."""
    widths = [width for stage in VGG16 for width in stage]
    found = Polynomial(widths)
    place, size = 0, 32
    for stage, members in enumerate(VGG16):
        for width in members:
            source = place - 1 if place else None
            found.add(9 * (3 if source is None else widths[source]) * width * size**2, source, place)
            found.add(5 * width * size**2, place)
            place += 1
        size //= 2
        if stage + 1 < len(VGG16):
            found.add(2 * size**2 * widths[place - 1], place - 1)
    found.add((3 + 1024 + 4) * widths[-1], place - 1)
    return found
