"""``cell_v2 update_cell``: change a cell's name or URLs, enable or disable it."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from jobs.cell_v2.create_cell import cell_with_urls
from jobs.retry import one_transaction
from novadb.engine import Database, server_message
from novadb.mappings import (
    CellMapping,
    DefaultUrls,
    change_cell_mapping,
    find_cell_mapping,
    read_cell_mappings,
)
from novadb.names import fold_name


class Exit(IntEnum):
    """The manual's return codes."""

    UPDATED = 0
    UNKNOWN_CELL = 1
    CANNOT_BE_SET = 2
    NOT_UNIQUE = 3
    BOTH_SWITCHES = 4
    CELL0 = 5


@dataclass(frozen=True)
class Params:
    """What to change.

    :ivar name: None or empty: leave it unchanged
    :ivar transport_url: as given, possibly a template; None: leave it unchanged; secret
    :ivar database_connection: as given, possibly a template; None: leave it unchanged; secret
    """

    name: str | None = None
    transport_url: str | None = None
    database_connection: str | None = None
    disable: bool = False
    enable: bool = False


@dataclass(frozen=True)
class Updated:
    """The result of an update.

    :ivar twin: the UUID of another cell that has one of the URLs
    :ivar already: ``disabled`` or ``enabled``, if the cell was in that state before
    :ivar changed: whether anything was written
    :ivar problem: why nothing could be saved
    """

    exit: Exit
    twin: str = ""
    already: str = ""
    changed: bool = False
    problem: str = ""


def change_cell(api: Database, defaults: DefaultUrls, uuid: str, params: Params) -> Updated:
    """Make all changes to a cell, or none."""

    def is_changed(connection: Connection, updated: Updated) -> bool:
        cell = find_cell_mapping(connection, defaults, uuid)
        return updated.changed and cell is not None and not _changes(cell, params)

    try:
        return one_transaction(
            api, lambda connection: _update(connection, defaults, uuid, params), is_changed
        )
    except DBAPIError as error:
        return Updated(Exit.CANNOT_BE_SET, problem=server_message(error))


def _update(api: Connection, defaults: DefaultUrls, uuid: str, params: Params) -> Updated:
    cells = {fold_name(cell.uuid): cell for cell in read_cell_mappings(api, defaults, lock=True)}
    cell = cells.pop(fold_name(uuid), None)
    if cell is None:
        return Updated(Exit.UNKNOWN_CELL)
    twin = cell_with_urls(
        cells.values(), defaults, params.transport_url, params.database_connection
    )
    if twin:
        return Updated(Exit.NOT_UNIQUE, twin=twin.uuid)
    if params.disable and params.enable:
        return Updated(Exit.BOTH_SWITCHES)
    if (params.disable or params.enable) and cell.is_cell0:
        return Updated(Exit.CELL0)
    changes = _changes(cell, params)
    if changes:
        change_cell_mapping(api, uuid, **changes)
    return Updated(Exit.UPDATED, already=_already(cell, params), changed=bool(changes))


def _changes(cell: CellMapping, params: Params) -> dict[str, Any]:
    """The columns to write: those with a given value that differs from the stored one."""
    given_and_stored: dict[str, tuple[Any, Any]] = {
        "name": (params.name, cell.name),
        "transport_url": (params.transport_url, cell.stored_transport_url),
        "database_connection": (params.database_connection, cell.stored_database_connection),
    }
    changes = {
        column: given
        for column, (given, stored) in given_and_stored.items()
        if given and given != stored
    }
    if (params.disable or params.enable) and params.disable != cell.disabled:
        changes["disabled"] = params.disable
    return changes


def _already(cell: CellMapping, params: Params) -> str:
    if params.disable and cell.disabled:
        return "disabled"
    if params.enable and not cell.disabled:
        return "enabled"
    return ""
