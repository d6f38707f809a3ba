"""Checks that decoder modules use for their arguments. A file may contain any value, so each one is checked.

A check takes one value and returns it in the type that the module needs. The message of its ValueError completes a sentence
that begins with the argument's name.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn

Check: TypeAlias = Callable[[Any], Any]


def checked(arguments: Mapping[str, Any], required: Mapping[str, Check], **optional: Check) -> dict[str, Any]:
    """The arguments that a file gives to a module, checked: all `required` ones and any of the `optional` ones.

    Raises TypeError for a missing or unknown name, ValueError for a value out of bounds.
    """
    checks = {**required, **optional}
    for name in required:
        if name not in arguments:
            msg = f"it lacks the argument {name}"
            raise TypeError(msg)
    found = {}
    for name, value in arguments.items():
        if name not in checks:
            msg = f"it takes no argument {reprlib.repr(name)}"
            raise TypeError(msg)
        try:
            found[name] = checks[name](value)
        except ValueError as error:
            msg = f"{name} {error}, not {reprlib.repr(value)}"
            raise ValueError(msg) from error
    return found


def no_children(children: Sequence[nn.Module]) -> None:
    """Raise TypeError if a file gives child modules to a module that takes none."""
    if children:
        msg = f"it takes no child modules, but {len(children)} {'was' if len(children) == 1 else 'were'} given"
        raise TypeError(msg)


def whole(low: int, high: int) -> Check:
    """An integer from `low` to `high`."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:  # True is an instance of int, too
            msg = f"has to be an integer from {low} to {high}"
            raise ValueError(msg)
        return value

    return check


def real(above: float, most: float) -> Check:
    """A number above `above`, up to `most`."""

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not above < value <= most:
            msg = f"has to be a number above {above}, up to {most}"
            raise ValueError(msg)
        return float(value)

    return check


def several(check: Check, most: int) -> Check:
    """A tuple of 1 to `most` values, each of which passes `check`."""

    def check_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list | tuple) or not 1 <= len(values) <= most:
            msg = f"has to be a list of 1 to {most} values"
            raise ValueError(msg)
        return tuple(map(check, values))

    return check_all


def pair(low: int, high: int) -> Check:
    """(vertical, horizontal) integers from `low` to `high`, given as two integers or as one for both."""
    one = whole(low, high)

    def check(value: Any) -> tuple[int, int]:
        sides = value if isinstance(value, list | tuple) else (value, value)
        if len(sides) != 2:
            raise ValueError("has to be one integer or two")
        return one(sides[0]), one(sides[1])

    return check


def flag(value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError("has to be true or false")
    return value


SIZE = whole(1, 2**20)  # channels or features; blueprint limits the elements of all tensors together
WINDOW = pair(1, 2**10)  # a kernel, stride or dilation
PADDING = pair(0, 2**10)
