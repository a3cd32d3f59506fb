"""``cell_v2 create_cell``: map a new cell."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, select

from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.mappings import CellMapping, DefaultUrls, add_cell_mapping, read_cell_mappings
from novadb.nova_tables import CELL_MAPPINGS


class Exit(IntEnum):
    """The manual's return codes."""

    CREATED = 0
    INVALID_URL = 1
    NOT_UNIQUE = 2


@dataclass(frozen=True)
class Params:
    """The new cell.

    :ivar transport_url: as given, possibly a template; secret
    :ivar database_connection: as given, possibly a template; secret
    """

    name: str | None
    transport_url: str
    database_connection: str
    disabled: bool = False


def create_cell_mapping(api: Database, defaults: DefaultUrls, params: Params) -> tuple[Exit, str]:
    """Map a new cell, unless another one has its database or its transport URL.

    :returns: the code, and the UUID of the new cell or of the other one
    """
    return one_transaction(
        api, lambda connection: _create(connection, defaults, params), _is_created
    )


def _create(api: Connection, defaults: DefaultUrls, params: Params) -> tuple[Exit, str]:
    others = read_cell_mappings(api, defaults, lock=True)
    if twin := cell_with_urls(others, defaults, params.transport_url, params.database_connection):
        return Exit.NOT_UNIQUE, twin.uuid
    new_uuid = str(uuid.uuid4())
    add_cell_mapping(api, uuid=new_uuid, **vars(params))
    return Exit.CREATED, new_uuid


def _is_created(api: Connection, created: tuple[Exit, str]) -> bool:
    code, new_uuid = created
    if code is not Exit.CREATED:
        return False
    query = select(CELL_MAPPINGS.c.id).where(CELL_MAPPINGS.c.uuid == new_uuid)
    return api.execute(query).first() is not None


def cell_with_urls(
    cells: Iterable[CellMapping],
    defaults: DefaultUrls,
    transport_url: str | None,
    database_connection: str | None,
) -> CellMapping | None:
    """The first cell with the same database or transport URL, before or after filling templates.

    :param transport_url: None: transport URLs are not compared
    :param database_connection: None: databases are not compared
    """
    transports: set[str] = set()
    databases: set[str] = set()
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
