"""The JSON that the program prints: each moment in it has its zone. Whoever parses it in a test
checks that here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d.*)?")
EPOCH: Final = range(1_500_000_000, 2_100_000_000)
"""Numbers that are seconds since the epoch: no test counts as many rows."""


def parse(text: str) -> Any:
    """The document that the program has printed.

    :raises AssertionError: a moment in it lacks its zone
    """
    document = json.loads(text)
    vague = list(vague_moments(document))
    assert not vague, f"these moments have no zone: {vague}"
    return document


def check(text: str) -> None:
    """See that the moments have zones in what may be such a document.

    :raises AssertionError: it is one, and one of its moments has none
    """
    if text.startswith(("{", "[")):
        try:
            json.loads(text)
        except json.JSONDecodeError:
            return
        parse(text)


def vague_moments(value: Any, place: str = "") -> Iterator[str]:
    """The moments in a value that are not ISO 8601 with a zone, with their places."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from vague_moments(item, f"{place}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from vague_moments(item, f"{place}[{number}]")
    elif _is_vague(value):
        yield f"{place}: {value}"


def _is_vague(value: Any) -> bool:
    if isinstance(value, str):
        return bool(MOMENT.fullmatch(value)) and not _has_zone(value)
    return isinstance(value, int | float) and int(value) in EPOCH


def _has_zone(text: str) -> bool:
    try:
        return "T" in text and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
