"""Size and FLOPs as the paper counts them, for comparison with its tables; the suite counts bytes and MACs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.bitstream import blueprint
from benchmarks.evaluation import measure
from methods.families.lowrank import weights
from methods.jsvd.shares import Share, structure


def compression_factor(
    architecture: str, arguments: Mapping[str, Any], found: Sequence[Share], as_printed: bool = False
) -> float:
    """CF: weights before / weights after (§IV), each shared factor once and without BatchNorm, as in the code.

    `as_printed` reproduces an error of the official code for bottleneck networks, which affects ResNet-50's CFs: it
    counts one 3×3 convolution of stage 1 too many before, and none of them after.
    """
    dense = blueprint.skeleton(architecture, arguments, {}, {})
    before, after = weights(dense), weights(blueprint.skeleton(architecture, arguments, *structure(found)))
    modules = dict(dense.named_modules())
    if as_printed and "layer1.0.conv3" in modules:
        stage = [
            m.weight.numel() for path, m in modules.items() if path.startswith("layer1.") and path.endswith("conv2")
        ]
        before, after = before + stage[0], after - sum(stage)
    return before / after


def flops(
    architecture: str, arguments: Mapping[str, Any], found: Sequence[Share], image: Sequence[int] = (3, 32, 32)
) -> int:
    """2 × MACs of convolutions and the classifier for one image, counted on the factorised network."""
    network = blueprint.skeleton(architecture, arguments, *structure(found)).eval()
    return 2 * measure.macs(network, torch.empty(1, *image, device="meta"))
