"""Checks of a decoder module's arguments, each made within a test: those of the modules are made when they are imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from benchmarks.bitstream import bounds

Make: TypeAlias = Callable[[], bounds.Check]


@pytest.mark.parametrize(
    ("make", "value", "wanted"),
    [
        (lambda: bounds.whole(1, 8), 1, 1),
        (lambda: bounds.whole(1, 8), 8, 8),
        (lambda: bounds.real(0.0, 1.0), 1, 1.0),
        (lambda: bounds.pair(1, 8), 3, (3, 3)),
        (lambda: bounds.pair(1, 8), [1, 8], (1, 8)),
        (lambda: bounds.several(bounds.whole(1, 8), 3), [1, 2, 8], (1, 2, 8)),
        (lambda: bounds.several(bounds.whole(1, 8), 3), [4], (4,)),
        (lambda: bounds.flag, False, False),
    ],
)
def test_a_value_within_the_bounds_is_taken(make: Make, value: Any, wanted: Any) -> None:
    found = make()(value)
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(
    ("make", "values", "sentence"),
    [
        (lambda: bounds.whole(1, 8), [0, 9, 2.0, True, "2", None], "has to be an integer from 1 to 8"),
        (lambda: bounds.real(0.0, 1.0), [0.0, 1.1, float("nan"), True, "1"], "has to be a number above 0.0, up to 1.0"),
        (lambda: bounds.pair(1, 8), [0, 9, [1, 9], [0, 1], [9, 1]], "has to be an integer from 1 to 8"),
        (lambda: bounds.pair(1, 8), [[1], [1, 2, 3], []], "has to be one integer or two"),
        (lambda: bounds.several(bounds.whole(1, 8), 3), [[], [1] * 4, 1, "11"], "has to be a list of 1 to 3 values"),
        (lambda: bounds.several(bounds.whole(1, 8), 3), [[1, 9]], "has to be an integer from 1 to 8"),
        (lambda: bounds.flag, [0, 1, None, "true"], "has to be true or false"),
    ],
)
def test_a_value_out_of_bounds_is_told(make: Make, values: list[Any], sentence: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            make()(value)


def test_arguments_are_named_in_the_sentence() -> None:
    required = {"size": bounds.whole(1, 8)}
    assert bounds.checked({"size": 3, "bias": True}, required, bias=bounds.flag) == {"size": 3, "bias": True}
    assert bounds.checked({"size": 3}, required, bias=bounds.flag) == {"size": 3}
    with pytest.raises(TypeError, match=r"^it lacks the argument size$"):
        bounds.checked({"bias": True}, required, bias=bounds.flag)
    with pytest.raises(TypeError, match=r"^it takes no argument 'colour'$"):
        bounds.checked({"size": 3, "colour": 1}, required, bias=bounds.flag)
    with pytest.raises(ValueError, match=r"^size has to be an integer from 1 to 8, not 9$"):
        bounds.checked({"size": 9}, required)
    with pytest.raises(TypeError, match=r"^it takes no child modules, but 1 was given$"):
        bounds.no_children([object()])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"^it takes no child modules, but 2 were given$"):
        bounds.no_children([object()] * 2)  # type: ignore[list-item]
