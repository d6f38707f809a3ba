"""The state that encoder and decoder of SuRP in rounds share; a round sends only what does not follow from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.bitstream.bytesio import Ints
from benchmarks.errors import BitstreamError
from methods.surp.source import Bools

LEVELS = 64  # probabilities are multiples of 1/64: dyadic, so fixed-point values are equal on every machine


def mean_after(mu: float, threshold: float, times: int, survivors: int) -> float:
    """The mean residual of the survivors after `times` subtractions of `threshold`; rounding must not make it negative."""
    return max(mu - threshold * times / survivors, 0.0)


class Knowledge:
    """Touched coordinates (ascending), their û, an upper bound of each residual, and the scale of the next round."""

    def __init__(self, lengths: Ints, survivors: int, mu: float, alpha: float, decay: float) -> None:
        self.edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        self.n, self.survivors = int(self.edges[-1]), survivors
        self.mu, self.alpha, self.decay = mu, alpha, decay
        self.coordinates = np.zeros(0, np.int64)
        self.u_hat = np.zeros(0)
        self.bounds = np.zeros(0)
        self.last = np.inf  # no untouched residual is above this
        self.tries, self.successes = 2, 1  # for coordinates that were above every threshold so far

    def starts(self) -> Ints:
        """The rank of each run's start among the untouched coordinates, then their count."""
        ranks: Ints = self.edges - np.searchsorted(self.coordinates, self.edges)
        return ranks

    def gaps(self, fresh: Ints) -> tuple[Ints, Ints]:
        """(gaps before the untouched coordinates `fresh`, ascending, each within its run; number of coordinates per run)."""
        ranks = fresh - np.searchsorted(self.coordinates, fresh)
        run = np.searchsorted(self.edges, fresh, side="right") - 1
        first = np.diff(run, prepend=-1) > 0
        before = np.where(first, self.starts()[run] - 1, np.roll(ranks, 1))
        return ranks - before - 1, np.bincount(run, minlength=len(self.edges) - 1)

    def place(self, gaps: Ints, counts: Ints) -> Ints:
        """Inverse of `gaps`."""
        if not len(gaps):
            return gaps
        starts, ends = self.starts(), np.cumsum(counts)
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(gaps + 1)])
        ranks = total[1:] - 1 + np.repeat(starts[:-1] - total[ends - counts], counts)
        if (ranks >= np.repeat(starts[1:], counts)).any():
            raise BitstreamError("a SuRP gap leads out of its tensors: the file is damaged")
        skipped = self.coordinates - np.arange(len(self.coordinates))
        placed: Ints = ranks + np.searchsorted(skipped, ranks, side="right")
        return placed

    def refine(self, threshold: float, fresh: Ints, ask: Callable[[Ints, Ints], Bools]) -> None:
        """One round: `fresh` are touched for the first time; `ask` returns which open coordinates are above the threshold.

        `ask` gets coordinates and the probability of each in units of 1/LEVELS; it is called until none is open.
        """
        if len(fresh):
            at = np.searchsorted(self.coordinates, fresh)
            self.coordinates = np.insert(self.coordinates, at, fresh)
            self.u_hat = np.insert(self.u_hat, at, threshold)
            self.bounds = np.insert(self.bounds, at, self.last - threshold)
        times, tried = len(fresh), np.flatnonzero(self.bounds > threshold)
        while len(tried):
            bounds = self.bounds[tried]
            unbounded = np.isinf(bounds)
            share = np.where(unbounded, self.successes / self.tries, 1 - threshold / bounds)
            above = ask(self.coordinates[tried], np.clip((share * LEVELS).astype(np.int64), 1, LEVELS - 1))
            self.tries += int(unbounded.sum())
            self.successes += int(above[unbounded].sum())
            self.bounds[tried] = np.where(above, bounds - threshold, threshold)
            self.u_hat[tried[above]] += threshold
            times += int(above.sum())
            tried = tried[self.bounds[tried] > threshold]
        self.mu, self.alpha = mean_after(self.mu, threshold, times, self.survivors), self.alpha * self.decay
        self.last = threshold
