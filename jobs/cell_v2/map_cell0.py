"""``cell_v2 map_cell0``: map the cell of the instances that no host has taken."""

from enum import IntEnum
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError

from jobs.retry import one_transaction
from novadb.cells import CELL0
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.mappings import CELL_MAPPINGS, DefaultUrls, add_cell_mapping

NAME: Final = "cell0"
SUFFIX: Final = "_cell0"
# Nothing is ever sent there.
TRANSPORT: Final = "none:///"


class Exit(IntEnum):
    """The manual's return code."""

    MAPPED = 0


def default_url(defaults: DefaultUrls) -> str:
    """The database beside the configured one: its name with ``_cell0`` behind it, all else to the letter.

    A name that ends in ``_cell0`` is cell0's own, and is taken as it is.

    :raises DatabaseProblem: none is configured, or it is no URL
    """
    if not defaults.database:
        raise DatabaseProblem("Give --database_connection, or set connection in section [database] of nova.conf")
    url = _parsed(defaults.database)
    if url is None or not url.database:
        raise DatabaseProblem("The connection in section [database] names no database: give --database_connection")
    if url.database.endswith(SUFFIX):
        return defaults.database
    return _with_suffix(defaults.database, url.set(database=url.database + SUFFIX))


def _parsed(text: str) -> URL | None:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        return None


def _with_suffix(text: str, wanted: URL) -> str:
    """Put the suffix into the text of a URL, where it makes the URL that is wanted: before its query, or at its end.

    Putting the URL together anew would change how its query and its password are written.
    """
    ends = [place for place, letter in enumerate(text) if letter == "?"]
    for end in (*ends, len(text)):
        written = text[:end] + SUFFIX + text[end:]
        if _parsed(written) == wanted:
            return written
    return wanted.render_as_string(hide_password=False)


def map_cell0(api: Database, url: str) -> bool:
    """Map cell0; a mapping that is there is left as it is.

    :param url: of its database, be it a template
    :returns: False: it was there
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
    return api.execute(select(CELL_MAPPINGS.c.id).where(CELL_MAPPINGS.c.uuid == CELL0)).first() is not None


def _add(api: Connection, url: str) -> None:
    add_cell_mapping(api, uuid=CELL0, name=NAME, transport_url=TRANSPORT, database_connection=url)
