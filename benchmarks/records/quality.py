"""One metric of networks that differ only in their seed: the average, its standard error and its 95 % interval."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.evaluation.metrics import Z95, Sums, interval, mean_error
from benchmarks.records.schema import Score
from methods.interface import Metric


@dataclass(frozen=True)
class Spread:
    """A quantity over seeds: mean, smallest and largest value."""

    mean: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    found = list(values)
    return Spread(statistics.fmean(found), min(found), max(found))


@dataclass(frozen=True)
class Quality:
    """The scores of one metric, one for each seed. All results except `mean` are multiplied by the metric's scale."""

    metric: Metric
    scores: tuple[Score, ...]

    @functools.cached_property
    def mean(self) -> float:
        """The mean over the seeds, not multiplied by the metric's scale."""
        return statistics.fmean(score.value for score in self.scores)

    @property
    def value(self) -> float:
        return self.metric.scale * self.mean

    @property
    def complement(self) -> float:
        """`scale` minus the value, such as the error rate."""
        return self.metric.scale * (1 - self.mean)

    @property
    def text(self) -> str:
        """The text of the value, without its unit."""
        return f"{self.value:,.{self.metric.decimals}f}"

    @property
    def over_seeds(self) -> Spread:
        found = spread(score.value for score in self.scores)
        return Spread(self.metric.scale * found.mean, self.metric.scale * found.low, self.metric.scale * found.high)

    @functools.cached_property
    def _sums(self) -> Sums:
        """The sums, averaged over seeds; for a proportion, rounded to whole items."""
        total = statistics.fmean(score.total for score in self.scores)
        squares = statistics.fmean(score.squares for score in self.scores)
        if self.metric.kind == "proportion":
            total = squares = round(total)
        return Sums(self.scores[0].items, total, squares)

    @functools.cached_property
    def _error(self) -> float:
        n = len(self.scores)
        seeds = statistics.variance(score.value for score in self.scores) / n if n > 1 else 0.0
        if self.metric.kind == "proportion":
            items = self.mean * (1 - self.mean) / self.scores[0].items
        else:
            items = mean_error(self._sums) ** 2
        return float((items + seeds) ** 0.5)

    @property
    def standard_error(self) -> float:
        """The standard error of the mean; with several seeds, it includes the variance between seeds / their number."""
        return self.metric.scale * self._error

    @functools.cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over the test items; with several seeds, at least mean ± 1.96 standard errors.

        All seeds are scored on the same test items, so more seeds do not narrow it: it is Wilson's or Student's interval
        of the averaged sums. That leaves out the variance between seeds, which the standard error includes.
        """
        if len(self.scores) == 1:
            low, high = self.scores[0].low, self.scores[0].high
        else:
            low, high = interval(self.metric, self._sums)
            half = Z95 * self._error
            low, high = min(low, self.mean - half), max(high, self.mean + half)
            if self.metric.kind == "proportion":
                low, high = max(0.0, low), min(1.0, high)
        return self.metric.scale * low, self.metric.scale * high
