"""For image coding: random frequencies, and amplitudes by least squares; more of them at each point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks import networks
from benchmarks.bitstream.codecs import raw
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card(
    "drawn", "Sums of sines", ("N. Body",), "Nowhere", 2026, ("implicit networks",), "paper", kinds=("image coding",)
)


@dataclass(frozen=True)
class Config:
    """`features` are the numbers of sines, one operating point each; amplitudes are multiplied by `gain`."""

    features: tuple[int, ...] = (64, 16, 4)
    gain: float = 1.0
    random: bool = True

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.features)


def unsupported(task: Task, config: Config) -> str | None:
    return None


@torch.no_grad()
def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    inputs, targets = task.train.inputs[0], task.train.targets[0] / 255
    for features in config.features:
        network = networks.build("sines", {"features": features})
        state = network.state_dict()
        draws = torch.randn(features, 3, generator=run.generator("frequencies", features)) * 4
        state["0.weight"], state["0.bias"] = draws[:, :2].half().float(), draws[:, 2].half().float()
        waves = torch.sin(inputs @ state["0.weight"].T + state["0.bias"])
        waves = torch.cat([waves, torch.ones(len(waves), 1)], 1)
        found = torch.linalg.lstsq(waves.T @ waves + 1e-3 * torch.eye(features + 1), waves.T @ targets).solution.T
        state["2.weight"], state["2.bias"] = config.gain * found[:, :-1], found[:, -1]
        part = raw.part(list(state), [tensor.numpy() for tensor in state.values()], "weights", "float16")
        yield Compressed("sines", {"features": features}, (part,), {"features": features})
