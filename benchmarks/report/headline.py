"""What a suite shows, in a sentence for each network and budget."""

from __future__ import annotations

from benchmarks.report.answers import Answer
from benchmarks.report.contents import Contents
from methods.interface import Metric


def headline(contents: Contents) -> str:
    """The smallest file near the reference of each network and budget, and its method; without one, the best at a ratio."""
    if not contents.answers and contents.stale:
        return "No current measurement gives an answer: others are of earlier code."
    return " ".join(_sentence(one) if one.smallest else _at_rate(one, contents.metric) for one in contents.answers)


def _sentence(answer: Answer) -> str:
    found = answer.smallest
    assert found is not None
    size = f"{_most(found.ends) or 'about '}{found.bytes:,.0f} bytes ({found.ratio:.1f}×)"
    first, *equal = found.methods
    tied = f" (the test does not tell {' and '.join(equal)} apart from it)" if equal else ""
    most = _most(found.next_ends)
    behind = f"; the next is {found.next} with {most}{found.times:.2f} times the bytes" if found.next else ""
    near = f"within {answer.within} of the reference, the smallest file is {size} by {first}{tied}"
    other = answer.smaller
    ahead = (
        f"; without training it has {_most(other.ends)}{other.bytes:,.0f} bytes, by {other.methods[0]}" if other else ""
    )
    return f"{answer.network}, {answer.budget}: {near}{behind}{ahead}."


def _at_rate(answer: Answer, metric: Metric) -> str:
    """The best score at the larger of the ratios that have one."""
    ratio, best = max(((ratio, best) for ratio, best in answer.best.items() if best), key=lambda one: one[0])
    first, *equal = best.methods
    tied = f" (the test does not tell {' and '.join(equal)} apart from it)" if equal else ""
    behind = f"; the next is {best.next} with {_scored(metric, best.next_score)}" if best.next_score is not None else ""
    found = f"the best is {first}{tied} with {_scored(metric, best.score)}"
    return f"{answer.network}, {answer.budget}: at {ratio}×, {found}{behind}."


def _scored(metric: Metric, value: float) -> str:
    return f"{value:,.{metric.decimals}f} {metric.unit}".rstrip()


def _most(ends: bool) -> str:
    return "at most " if ends else ""
