"""What a suite shows, in a sentence for each network and budget."""

from __future__ import annotations

from benchmarks.report.answers import Answer
from benchmarks.report.contents import Contents


def headline(contents: Contents) -> str:
    """The smallest file near the reference of each network and budget, and its method; "" without a reference."""
    if not contents.answers and contents.stale:
        return "No current measurement gives an answer: others are of earlier code."
    return " ".join(_sentence(one) for one in contents.answers if one.smallest)


def _sentence(answer: Answer) -> str:
    found = answer.smallest
    assert found is not None
    size = f"{_most(found.ends) or 'about '}{found.bytes:,.0f} bytes ({found.ratio:.1f}×)"
    first, *equal = found.methods
    tied = f" (the test does not tell {' and '.join(equal)} apart from it)" if equal else ""
    most = _most(found.next_ends)
    behind = f"; the next is {found.next} with {most}{found.times:.2f} times the bytes" if found.next else ""
    near = f"within {answer.within} of the reference, the smallest file is {size} by {first}{tied}"
    return f"{answer.network}, {answer.budget}: {near}{behind}."


def _most(ends: bool) -> str:
    return "at most " if ends else ""
