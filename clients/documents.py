"""Checks the types of values in a document that another program has sent."""

from collections.abc import Mapping, Sequence
from typing import Any


def expect_text(value: Any) -> str:
    """A text.

    :raises TypeError: it is none
    """
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def expect_number(value: Any) -> int:
    """A whole number.

    :raises TypeError: it is none
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} is no whole number")
    return value


def expect_list(value: Any) -> Sequence[Any]:
    """A list.

    :raises TypeError: it is none
    """
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} is no list")
    return value


def expect_object(value: Any) -> Mapping[str, Any]:
    """An object.

    :raises TypeError: it is none
    """
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} is no object")
    return value


def expect_texts(value: Any) -> tuple[str, ...]:
    """A list of texts.

    :raises TypeError: it is something else
    """
    return tuple(map(expect_text, expect_list(value)))


def expect_amounts(value: Any) -> dict[str, int]:
    """Numbers by name.

    :raises TypeError: it is something else
    """
    return {name: expect_number(amount) for name, amount in expect_object(value).items()}
