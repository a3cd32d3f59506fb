"""Values in JSON and back: parameters and outcomes, which travel to workers and lie in the store.

The types say how: frozen dataclasses, mappings of text, tuples, text, numbers, moments, and None.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Make a value of what JSON knows. Moments are naive, in UTC."""
    if dataclasses.is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    return value


def decode(kind: type[T], data: Any) -> T:
    """Make a value of a type from what ``encode`` made of it. Unknown fields are left out.

    :raises TypeError: the data lack a field without default
    """
    decoded: T = _decode(kind, data)
    return decoded


def _decode(kind: Any, data: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if data is None else _decode(next(one for one in inner if one is not types.NoneType), data)
    if origin is tuple:
        return tuple(_decode(inner[0], item) for item in data)
    if origin is not None:
        return {key: _decode(inner[1], item) for key, item in data.items()}
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name in data]
        return kind(**{name: _decode(hints[name], data[name]) for name in names})  # type: ignore[operator]
    if kind is datetime:
        return datetime.fromisoformat(data).replace(tzinfo=None)
    return data
