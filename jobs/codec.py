"""Values in JSON and back: parameters and outcomes, which travel to workers and lie in the store.

The types say how: frozen dataclasses, mappings of text, tuples, text, numbers, moments, and None.
Moments are why no library does this: naive within the program, they travel as UTC with its zone.
"""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import repeat
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Make a value of what JSON knows. Moments are naive, in UTC."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    return value


def decode(kind: type[T], data: Any) -> T:
    """Make a value of a type from what ``encode`` made of it. Unknown fields are left out.

    :raises TypeError: the data lack a field without default, or no such type travels
    """
    decoded: T = _decode(kind, data)
    return decoded


def _decode(kind: Any, data: Any) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, typing.Union):
        present = [part for part in parts if part is not types.NoneType]
        if len(present) > 1:
            raise TypeError(f"{kind} does not travel: nothing would say which it is")
        return None if data is None else _decode(present[0], data)
    if origin is tuple:
        return tuple(map(_decode, _kinds_of_items(parts, data), data))
    if origin in (dict, Mapping):
        return {key: _decode(parts[1], item) for key, item in data.items()}
    if origin is not None:
        raise TypeError(f"{kind} does not travel")
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, data)
    if kind is datetime:
        return datetime.fromisoformat(data).replace(tzinfo=None)
    return data


def _kinds_of_items(parts: tuple[Any, ...], items: Sequence[Any]) -> Iterable[Any]:
    """The type of each item of a tuple."""
    return repeat(parts[0], len(items)) if parts[-1] is Ellipsis else parts


def _decode_fields(kind: Any, data: Mapping[str, Any]) -> Any:
    kinds = _kinds_of_fields(kind)
    return kind(**{name: _decode(kinds[name], data[name]) for name in kinds if name in data})


@cache
def _kinds_of_fields(kind: type[Any]) -> dict[str, Any]:
    """The type of each field of a dataclass: to find them takes longer than to decode a value."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
