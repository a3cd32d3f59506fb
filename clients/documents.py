"""Checks the types of values in a document that another program has sent."""

from collections.abc import Mapping, Sequence
from typing import Any


def text(value: Any) -> str:
    """A text.

    :raises TypeError: it is none
    """
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def number(value: Any) -> int:
    """A whole number.

    :raises TypeError: it is none
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} is no whole number")
    return value


def items(value: Any) -> Sequence[Any]:
    """A list.

    :raises TypeError: it is none
    """
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} is no list")
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """An object.

    :raises TypeError: it is none
    """
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} is no object")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts.

    :raises TypeError: it is something else
    """
    return tuple(map(text, items(value)))


def amounts(value: Any) -> dict[str, int]:
    """Numbers by name.

    :raises TypeError: it is something else
    """
    return {name: number(amount) for name, amount in mapping(value).items()}
