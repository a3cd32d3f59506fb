"""Checks the types of values in a document that another program has sent.

Each function returns the value as it is, or raises ``TypeError`` where its type is another one.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def expect_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is not a text")
    return value


def expect_number(value: Any) -> int:
    """A whole number; to Python, true and false are numbers as well."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} is not a whole number")
    return value


def expect_list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} is not a list")
    return value


def expect_object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} is not an object")
    return value


def expect_texts(value: Any) -> tuple[str, ...]:
    return tuple(map(expect_text, expect_list(value)))


def expect_amounts(value: Any) -> dict[str, int]:
    """Whole numbers by name, such as resources by their class."""
    return {name: expect_number(amount) for name, amount in expect_object(value).items()}
