"""``cell_v2 create_cell``: map a new cell."""

import uuid
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection

from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.mappings import CellMapping, Defaults, add_cell_mapping, cell_mappings


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


def create(api: Database, defaults: Defaults, params: Params) -> tuple[Exit, str]:
    """Create a cell, unless another one has its database or its transport URL.

    :returns: the code, and the UUID of the new cell, or of the other one
    """
    return one_transaction(api, lambda connection: _create(connection, defaults, params))


def _create(api: Connection, defaults: Defaults, params: Params) -> tuple[Exit, str]:
    others = cell_mappings(api, defaults, lock=True)
    if twin := same_urls(others, params.transport_url, params.database_connection):
        return Exit.NOT_UNIQUE, twin.uuid
    number = str(uuid.uuid4())
    add_cell_mapping(api, uuid=number, **vars(params))
    return Exit.CREATED, number


def same_urls(
    others: list[CellMapping], transport_url: str | None, database_connection: str | None
) -> CellMapping | None:
    """The first cell that has the same database or the same transport URL.

    As in the stock tool what is given is compared as it is, with what the others have when their templates are filled.

    :param transport_url: None: is not compared
    :param database_connection: the same
    """
    urls = {transport_url, database_connection} - {None}
    return next((one for one in others if urls & {one.transport_url, one.database_connection}), None)
