"""The signal of the operator's own query."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from settings.throttle import ThrottleSettings
from throttle.look import Look, compare, unknown
from throttle.readings import Answer, Reading

NAME: Final = "query"


class NoNumber(Exception):
    """The query returned something other than a number."""


def is_on(settings: ThrottleSettings) -> bool:
    """Whether there is one."""
    return bool(settings.query)


def read(look: Look) -> Iterator[Reading]:
    """What the query returns."""
    try:
        number = number_from(look.connection, look.settings.query)
    except DBAPIError as error:
        yield unknown(NAME, error)
    except NoNumber:
        yield Reading(
            NAME, Answer.UNKNOWN, "the query returns no number: option query of section [throttle]"
        )
    else:
        yield compare(NAME, number, look.settings.max_query, f"the query returns {number:g}")


def number_from(connection: Connection, query: str) -> float:
    """The number that a query of the operator's returns.

    :raises NoNumber: it returns something else, or nothing
    :raises DBAPIError: the server refuses it
    """
    value = connection.execute(text(query.replace(":", r"\:"))).scalar()
    try:
        return float(value)  # type: ignore[arg-type]  # None raises, as a text does
    except (TypeError, ValueError):
        raise NoNumber from None
