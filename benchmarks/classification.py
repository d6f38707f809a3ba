"""The classification task as methods see it: lazy splits, a reference network and a loss; no test images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.errors import TaskError
from methods.interface import Json, Split

SPLIT_SEED = 20220209  # cuts the validation split; part of the task's definition, never a run's seed


@dataclass(frozen=True, eq=False)
class Classification:
    """Satisfies `methods.interface.Task`; `load_splits` gives (train, validation), `load_state` the trained tensors."""

    name: str
    network: str
    architecture: str
    arguments: Mapping[str, Json]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool
    load_splits: Callable[[], tuple[Split, Split]]
    load_state: Callable[[], Mapping[str, Tensor]]

    @functools.cached_property
    def _splits(self) -> tuple[Split, Split]:
        return self.load_splits()

    @functools.cached_property
    def _state(self) -> Mapping[str, Tensor]:
        state = self.load_state()
        for name, tensor in state.items():
            if not torch.isfinite(tensor).all():
                msg = (
                    f"the reference {self.network} has NaN or infinite values in {name!r}: "
                    "it can't be compressed or scored; fetch or train it again"
                )
                raise TaskError(msg)
        return state

    @property
    def train(self) -> Split:
        return self._splits[0]

    @property
    def validation(self) -> Split:
        return self._splits[1]

    def reference(self) -> nn.Module:
        with torch.device("meta"):  # no memory and, above all, no random numbers for weights that are replaced
            network = networks.build(self.architecture, self.arguments)
        try:
            network.to_empty(device="cpu").load_state_dict(self._state)
        except RuntimeError as error:
            msg = f"the reference {self.network} does not fit its architecture: {error}"
            raise TaskError(msg) from error
        return network.eval()

    def calibration(self, n: int) -> Split:
        if not 0 < n <= len(self.train):
            msg = f"calibration needs between 1 and {len(self.train)} images, not {n}"
            raise TaskError(msg)
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(SPLIT_SEED))[:n]
        return Split(self.train.images[order], self.train.labels[order])

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, labels)


def cut(images: Tensor, labels: Tensor, *sizes: int) -> list[Split]:
    """Disjoint random splits of the given sizes, always the same for the same number of images."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return [Split(images[chosen], labels[chosen]) for chosen in order.split(list(sizes))]
