"""``cell_v2 create_cell``: map a new cell."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, select

from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.mappings import CELL_MAPPINGS, CellMapping, DefaultUrls, add_cell_mapping, read_cell_mappings


class Exit(IntEnum):
    """The manual's return codes."""

    CREATED = 0
    INVALID_URL = 1
    NOT_UNIQUE = 2


@dataclass(frozen=True)
class Params:
    """The new cell.

    :ivar transport_url: as given, be it a template; secret
    :ivar database_connection: the same
    """

    name: str | None
    transport_url: str
    database_connection: str
    disabled: bool = False


def create(api: Database, defaults: DefaultUrls, params: Params) -> tuple[Exit, str]:
    """Create a cell, unless another one has its database or its transport URL.

    :returns: the code, and the UUID of the new cell, or of the other one
    """
    return one_transaction(api, lambda connection: _create(connection, defaults, params), _is_created)


def _create(api: Connection, defaults: DefaultUrls, params: Params) -> tuple[Exit, str]:
    others = read_cell_mappings(api, defaults, lock=True)
    if twin := cell_with_urls(others, defaults, params.transport_url, params.database_connection):
        return Exit.NOT_UNIQUE, twin.uuid
    number = str(uuid.uuid4())
    add_cell_mapping(api, uuid=number, **vars(params))
    return Exit.CREATED, number


def _is_created(api: Connection, created: tuple[Exit, str]) -> bool:
    code, number = created
    return (
        code is Exit.CREATED
        and api.execute(select(CELL_MAPPINGS.c.id).where(CELL_MAPPINGS.c.uuid == number)).first() is not None
    )


def cell_with_urls(
    cells: Iterable[CellMapping], defaults: DefaultUrls, transport_url: str | None, database_connection: str | None
) -> CellMapping | None:
    """The first cell that has the same database or transport URL: as they are stored, or with their templates filled.

    :param transport_url: None: is not compared
    :param database_connection: None: is not compared
    """
    transports, databases = set(), set()
    if transport_url:
        transports = {transport_url, defaults.transport_url(transport_url)}
    if database_connection:
        databases = {database_connection, defaults.database_url(database_connection)}
    for cell in cells:
        same_transport = transports & {cell.transport_url, cell.stored_transport_url}
        same_database = databases & {cell.database_connection, cell.stored_database_connection}
        if same_transport or same_database:
            return cell
    return None
