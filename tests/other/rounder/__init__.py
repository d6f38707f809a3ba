"""Rounds the weights of a network to a grid; images are first fitted by a network of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks import networks
from methods.families import storage
from methods.families.limits import Bits
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card("rounder", "Rounding", ("A. Author",), "Venue", 2020, ("quantisation",), "reconstruction", note="From memory.",
            kinds=("regression", "image coding"))  # fmt: skip
HIDDEN = {"inputs": 3, "width": 64}


@dataclass(frozen=True)
class Config:
    bits: tuple[Bits, ...] = (12, 6, 3)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.bits)


def unsupported(task: Task, config: Config) -> str | None:
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    regression = task.kind == "regression"
    network = task.reference() if regression else _fitted(task, run)
    architecture, arguments = ("mlp", task.arguments) if regression else ("mlp", HIDDEN)
    found = storage.tensors(network)
    weights = storage.matrices(found)
    others = {name: values for name, values in found.items() if name not in weights}
    for bits in config.bits:
        parts = (storage.grid(weights, bits), *storage.norm_parts(network, others))
        yield Compressed(architecture, arguments, parts, {"bits": bits}, notes={"width": HIDDEN["width"]})


def _fitted(task: Task, run: Run) -> nn.Module:
    """Random features of the coordinates, and the read-out that fits the images best."""
    network, draws = networks.build("mlp", HIDDEN), run.generator("features")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(3 * torch.randn(parameter.shape, generator=draws))
        places, grey = task.train.inputs.flatten(0, 1), task.train.targets.flatten()
        features = torch.cat([network[:2](places), torch.ones(len(places), 1)], 1)
        solved = torch.linalg.lstsq(features, grey[:, None], driver="gelsd").solution
        network[2].weight.copy_(solved[:-1].T)
        network[2].bias.copy_(solved[-1])
    return network.eval()
