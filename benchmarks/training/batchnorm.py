"""BatchNorm around compression: which convolution it follows, its affine function, and re-estimation of its statistics."""

from __future__ import annotations

from collections import Counter
from typing import TypeGuard

import torch
from torch import Tensor, fx, nn

from benchmarks.errors import MethodError, in_short
from benchmarks.seeds import generator
from benchmarks.training.augmentation import augment
from benchmarks.training.layout import channels_last, device_of
from methods.interface import Task

CHUNK = 250  # items per batch whose variance is computed


def foldable(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a module is a BatchNorm2d with γ, β and running statistics: it then has an `affine` function."""
    own = {name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}
    return isinstance(module, nn.BatchNorm2d) and {"weight", "bias", "running_mean", "running_var"} <= own


def conv_bn_pairs(network: nn.Module) -> dict[str, str]:
    """Path of each convolution that only a `foldable` BatchNorm2d reads -> path of that BatchNorm (traced).

    Modules that are called more than once are in no pair. Raises MethodError for a network that can't be traced.
    """
    try:
        graph = fx.symbolic_trace(network)
    except Exception as error:  # whatever its forward pass does with a symbol
        msg = (
            "the network can't be traced to find the BatchNorm after each convolution "
            f"({in_short(error)}): its forward pass must not depend on values"
        )
        raise MethodError(msg) from error
    modules = dict(graph.named_modules())
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    pairs = {}
    for node in graph.graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        if calls[node.target] > 1 or calls[source.target] > 1:
            continue
        if foldable(modules[node.target]) and isinstance(modules[source.target], nn.Conv2d):
            pairs[source.target] = node.target
    return pairs


@torch.no_grad()
def affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, shift) of a `foldable` BatchNorm, both (channels,).

    At inference, BN(x) = scale · x + shift, with scale = γ/σ and shift = β − μ γ/σ.
    """
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return scale, bn.bias - bn.running_mean * scale


@torch.no_grad()
def reestimate(network: nn.Module, task: Task, items: int) -> None:
    """Replace running means and variances by those over `items` calibration items, in place; sets the network to eval mode.

    Images in memory are augmented as usual for the task: otherwise the statistics shift, and a network trained with
    crops loses accuracy. Images on disk are resized and cropped as for evaluation, and flipped. Items and crops are the
    same in every run. Does nothing for `items` = 0 or without BatchNorm.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not items or not layers:
        return
    batch = augment(task.calibration(items).inputs, task.augmentation, generator("calibration crops"))
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
    channels_last(network)
    network.train()
    device = device_of(network)
    for chunk in batch.split(CHUNK):
        network(task.prepare(chunk.to(device)))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
