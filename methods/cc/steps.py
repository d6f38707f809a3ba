"""Which units of a layer are removed: multi-step heuristic compression (MSHC)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from methods.cc.scores import scores
from methods.cc.units import Convolution, State

Units: TypeAlias = Literal["both", "channels", "components"]
SHARE = 0.01  # of a layer's units are removed before they are scored again


class Decision(NamedTuple):
    """What is left of a layer: a mask (C,) of input channels, and the rank of a pair of convolutions (None: one)."""

    kept: Tensor
    rank: int | None


def interval(conv: Convolution) -> int:
    return max(1, int(SHARE * (conv.channels + conv.rank)))


class Path:
    """The states of one layer, one after each removal, computed as far as they are asked for."""

    def __init__(self, conv: Convolution, gamma: float, units: Units, exact: bool) -> None:
        self._conv = conv
        self._known: list[tuple[Tensor, int]] = []
        self._more = _removals(conv, gamma, units, exact)

    def until(self, goal: float) -> Decision:
        """The first state that saves `goal` multiply-accumulates, or the last one.

        If the channels alone save as much, there is no pair of convolutions.
        """
        conv = self._conv
        if goal <= 0:
            return Decision(torch.ones(conv.channels, dtype=torch.bool), None)
        place = 0
        while True:
            if place == len(self._known):
                following = next(self._more, None)
                if following is None:
                    kept, left = (
                        self._known[-1] if self._known else (torch.ones(conv.channels, dtype=torch.bool), conv.rank)
                    )
                    return Decision(kept, left if left < conv.rank else None)
                self._known.append(following)
            kept, left = self._known[place]
            saved, alone = conv.saved(int(kept.sum()), left)
            if saved >= goal:
                return Decision(kept, left if left < conv.rank else None)
            if alone >= goal:
                return Decision(kept, None)
            place += 1


def _removals(conv: Convolution, gamma: float, units: Units, exact: bool) -> Iterator[tuple[Tensor, int]]:
    """(kept channels, components left) after each removal, until one channel and one component are left."""
    state = State(conv, 1 if exact else interval(conv))
    while True:
        by_channel, by_component = (b + gamma * e for b, e in scores(state, exact))
        channels = state.kept.nonzero()[:, 0]
        if units == "components" or len(channels) == 1:
            by_channel = by_channel[:0]
        if units == "channels" or state.left == 1:
            by_component = by_component[:0]
        if not len(by_channel) + len(by_component):
            return
        gone = torch.zeros(state.left, dtype=torch.bool)
        for unit in torch.cat([by_channel, by_component]).argsort(stable=True)[: interval(conv)].tolist():
            if unit < len(by_channel):
                if int(state.kept.sum()) == 1:
                    continue
                state.remove_channel(int(channels[unit]))
            else:
                if state.left == 1:
                    continue
                place = unit - len(by_channel)
                state.remove_component(place - int(gone[:place].sum()))
                gone[place] = True
            yield state.kept.clone(), state.left
