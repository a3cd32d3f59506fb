"""``cell_v2 map_cell0``: map the cell of instances that failed to be scheduled."""

from enum import IntEnum
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError

from jobs.retry import one_transaction
from novadb.cells import CELL0
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.mappings import DefaultUrls, add_cell_mapping
from novadb.nova_tables import CELL_MAPPINGS

CELL0_NAME: Final = "cell0"
CELL0_SUFFIX: Final = "_cell0"
CELL0_TRANSPORT: Final = "none:///"  # nothing is ever sent there


class Exit(IntEnum):
    """The manual's return code."""

    MAPPED = 0


def default_url(defaults: DefaultUrls) -> str:
    """The configured database URL with ``_cell0`` appended to the database's name.

    A database whose name ends in ``_cell0`` is cell0's own.

    :raises DatabaseProblem: none is configured, or it is not a URL
    """
    if not defaults.database:
        raise DatabaseProblem(
            "Give --database_connection, or set connection in section [database] of nova.conf"
        )
    url = _parse_url(defaults.database)
    if url is None or not url.database:
        raise DatabaseProblem(
            "The connection in section [database] names no database: give --database_connection"
        )
    if url.database.endswith(CELL0_SUFFIX):
        return defaults.database
    return _with_suffix(defaults.database, url.set(database=url.database + CELL0_SUFFIX))


def _parse_url(text: str) -> URL | None:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        return None


def _with_suffix(text: str, wanted: URL) -> str:
    """Insert the suffix into the text of a URL so that it becomes the wanted URL.

    That is before its query or at its end. Rendering the wanted URL instead could change how its
    query and its password are written.
    """
    question_marks = [position for position, letter in enumerate(text) if letter == "?"]
    for position in (*question_marks, len(text)):
        candidate = text[:position] + CELL0_SUFFIX + text[position:]
        if _parse_url(candidate) == wanted:
            return candidate
    return wanted.render_as_string(hide_password=False)


def map_cell0_to(api: Database, url: str) -> bool:
    """Map cell0 to a database. An existing mapping is left as it is.

    :param url: of the database; it may be a template
    :returns: False: cell0 was mapped already
    """

    def is_added(connection: Connection, _: None) -> bool:
        added = select(CELL_MAPPINGS.c.id).where(
            CELL_MAPPINGS.c.uuid == CELL0, CELL_MAPPINGS.c.database_connection == url
        )
        return connection.execute(added).first() is not None

    try:
        one_transaction(api, lambda connection: _add(connection, url), is_added)
    except IntegrityError:
        if not one_transaction(api, _is_mapped):
            raise
        return False
    return True


def _is_mapped(api: Connection) -> bool:
    return (
        api.execute(select(CELL_MAPPINGS.c.id).where(CELL_MAPPINGS.c.uuid == CELL0)).first()
        is not None
    )


def _add(api: Connection, url: str) -> None:
    add_cell_mapping(
        api, uuid=CELL0, name=CELL0_NAME, transport_url=CELL0_TRANSPORT, database_connection=url
    )
