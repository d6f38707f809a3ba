"""BatchNorm around compression: which convolution it follows, its affine function, and re-estimation of its statistics."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from benchmarks.seeds import generator
from benchmarks.training.augmentation import augment
from benchmarks.training.layout import channels_last, device_of
from methods.interface import Task

CHUNK = 250  # items per batch whose variance is computed


def conv_bn_pairs(network: nn.Module) -> dict[str, str]:
    """Path of each convolution that only a BatchNorm2d reads -> path of that BatchNorm (traced)."""
    graph = fx.symbolic_trace(network)
    modules = dict(graph.named_modules())
    pairs = {}
    for node in graph.graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        if isinstance(modules[node.target], nn.BatchNorm2d) and isinstance(modules[source.target], nn.Conv2d):
            pairs[source.target] = node.target
    return pairs


@torch.no_grad()
def affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, shift), both (channels,), with BN(x) = scale · x + shift at inference: scale = γ/σ, shift = β − μ γ/σ."""
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
