"""``cell_v2 map_cell0``: map the cell of the instances that no host has taken."""

from enum import IntEnum
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError

from jobs.retry import one_transaction
from novadb.cells import CELL0
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.mappings import Defaults, add_cell_mapping

NAME: Final = "cell0"
# Nothing is ever sent there.
TRANSPORT: Final = "none:///"


class Exit(IntEnum):
    """The manual's return code."""

    MAPPED = 0


def default_url(defaults: Defaults) -> str:
    """The database beside the configured one: its name with ``_cell0`` behind it, all else the same.

    :raises DatabaseProblem: none is configured, or it is no URL
    """
    if not defaults.database:
        raise DatabaseProblem("Give --database_connection, or set connection in section [database] of nova.conf")
    try:
        url = make_url(defaults.database)
    except (ArgumentError, ValueError):
        url = None
    if url is None or not url.database:
        raise DatabaseProblem("The connection in section [database] names no database: give --database_connection")
    return url.set(database=f"{url.database}_cell0").render_as_string(hide_password=False)


def map_cell0(api: Database, url: str) -> bool:
    """Map cell0; a mapping that is there is left as it is.

    :param url: of its database, be it a template
    :returns: False: it was there
    """
    try:
        one_transaction(api, lambda connection: _add(connection, url))
    except IntegrityError:
        return False
    return True


def _add(api: Connection, url: str) -> None:
    add_cell_mapping(api, uuid=CELL0, name=NAME, transport_url=TRANSPORT, database_connection=url)
