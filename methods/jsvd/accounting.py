"""The paper's compression factors, FLOPs and parameters, counted on the structures of this suite without training."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchmarks.bitstream import blueprint
from benchmarks.evaluation import measure
from methods.families.lowrank import groups, weights
from methods.interface import ModuleSpec
from methods.jsvd import counting
from methods.jsvd.shares import Share, shares, structure

if TYPE_CHECKING:
    from benchmarks.papers.reported import Reported

__fingerprint__ = False  # no result depends on it
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
IMAGES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "imagenet": (3, 224, 224)}


def count(row: Reported) -> float | None:
    """CF ("cf"), weights without BatchNorm ("params") or 2 × MACs of one image ("flops"); None for anything else.

    Rows without a scheme are about separate SVDs, those of the method `tucker` about Tucker-2 of equal size.
    """
    if row.metric == "params":
        return weights(_dense(row.task, row.network))
    known = row.task, row.network, row.point["rate"]
    if row.metric == "flops" and row.method == "tucker":
        return _tucker_flops(*known)
    scheme = row.config.get("scheme", "separate"), row.config.get("p", 0.5)
    if row.metric == "flops":
        return _flops(*known, *scheme)
    if row.metric == "cf":
        return counting.compression_factor("resnet", _arguments(*known[:2]), _shares(*known, *scheme))
    return None


def _arguments(task: str, network: str) -> dict[str, Any]:
    stem = "imagenet" if task == "imagenet" else "cifar"
    return {"depth": int(network.removeprefix("resnet")), "classes": CLASSES[task], "stem": stem}


@functools.cache
def _dense(task: str, network: str) -> nn.Module:
    return blueprint.skeleton("resnet", _arguments(task, network), {}, {})


def _shares(task: str, network: str, rate: float, scheme: Any, p: float) -> Sequence[Share]:
    return shares(groups(_dense(task, network)), scheme, rate, p)


@functools.cache
def _flops(task: str, network: str, rate: float, scheme: str, p: float) -> int:
    return _counted(task, network, *structure(_shares(task, network, rate, scheme, p)))


@functools.cache
def _tucker_flops(task: str, network: str, rate: float) -> int:
    from methods.baselines import tucker  # all other numbers can be counted without it

    layers = {path: layer for group in groups(_dense(task, network)) for path, layer in group.layers.items()}
    share = tucker.equal_share(list(layers.values()), rate)
    edits = {path: tucker.chain(layer, tucker.chain_ranks(layer, share)) for path, layer in layers.items()}
    return _counted(task, network, edits, {})


def _counted(task: str, network: str, edits: dict[str, ModuleSpec], tied: dict[str, str]) -> int:
    """2 × MACs of one image. BatchNorm has none, and following its operations takes most of the time: it is left out."""
    thin = blueprint.skeleton("resnet", _arguments(task, network), edits, tied).eval()
    for path, module in list(thin.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            thin.set_submodule(path, nn.Identity())
    return 2 * measure.macs(thin, torch.empty(1, *IMAGES[task], device="meta"))
