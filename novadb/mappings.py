"""The rows of ``cell_mappings``, as Nova reads and writes them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from novadb.cells import CELL0, Cell
from novadb.clock import utc_now
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.nova_tables import CELL_MAPPINGS
from novadb.urls import expand_template
from settings.databases import Timeouts


@dataclass(frozen=True)
class DefaultUrls:
    """The URLs of the configuration, which fill templates and replace missing URLs. Secret.

    :ivar database: ``[database]/connection``, if it is set
    :ivar transport: ``[DEFAULT]/transport_url``
    :ivar parameters: ``[database]/connection_parameters``, for the database of each cell
    """

    database: str | None
    transport: str
    parameters: str = ""

    def __repr__(self) -> str:
        return "<Defaults>"

    def database_url(self, url: str) -> str:
        """A database URL, filled if it is a template."""
        return expand_template(url, self.database)

    def transport_url(self, url: str) -> str:
        """A transport URL, filled if it is a template."""
        return expand_template(url, self.transport)


@dataclass(frozen=True)
class CellMapping:
    """A row of ``cell_mappings``, its templates filled. All URLs are secret.

    :ivar name: optional, and not unique
    :ivar stored_transport_url: as it is stored, template or not
    :ivar stored_database_connection: as it is stored, template or not
    :ivar parameters: appended to the query of ``database_connection`` to connect
    """

    id: int
    uuid: str
    name: str | None
    transport_url: str
    database_connection: str
    disabled: bool
    stored_transport_url: str
    stored_database_connection: str
    parameters: str

    def __repr__(self) -> str:
        return f"<CellMapping {self.uuid}>"

    @property
    def is_cell0(self) -> bool:
        """Whether it is the cell of instances that were never scheduled to a host."""
        return self.uuid == CELL0

    def cell(self, timeouts: Timeouts) -> Cell:
        """The cell to work on."""
        try:
            database: Database | DatabaseProblem = self.database(timeouts)
        except DatabaseProblem as problem:
            database = problem
        return Cell(self.uuid, self.name, frozenset({self.id}), database)

    def database(self, timeouts: Timeouts) -> Database:
        """The cell's database.

        :raises DatabaseProblem: its URL cannot be used
        """
        return Database(self.database_connection, self.name or self.uuid, timeouts, self.parameters)


def read_cell_mappings(
    api: Connection, defaults: DefaultUrls, *, lock: bool = False
) -> list[CellMapping]:
    """All cells in ascending order of their id.

    :param lock: keep others from changing them until the transaction ends
    """
    statement = select(CELL_MAPPINGS).order_by(CELL_MAPPINGS.c.id)
    if lock:
        statement = statement.with_for_update()
    return [_fill_templates(row, defaults) for row in api.execute(statement)]


def find_cell_mapping(api: Connection, defaults: DefaultUrls, uuid: str) -> CellMapping | None:
    """The cell with a UUID."""
    row = api.execute(select(CELL_MAPPINGS).where(CELL_MAPPINGS.c.uuid == uuid)).one_or_none()
    return _fill_templates(row, defaults) if row else None


def _fill_templates(row: Row[Any], defaults: DefaultUrls) -> CellMapping:
    return CellMapping(
        row.id,
        row.uuid,
        row.name,
        defaults.transport_url(row.transport_url or ""),
        defaults.database_url(row.database_connection or ""),
        bool(row.disabled),
        row.transport_url,
        row.database_connection,
        defaults.parameters,
    )


def add_cell_mapping(api: Connection, **values: Any) -> int:
    """Add a row.

    :param values: by column; URLs as they were given, templates or not
    :returns: its id
    """
    row = {"created_at": utc_now(), "disabled": False} | values
    return int(api.execute(insert(CELL_MAPPINGS).values(row)).lastrowid)


def change_cell_mapping(api: Connection, uuid: str, **values: Any) -> None:
    """Change columns of a row. The others keep what is stored, so templates stay templates."""
    row = update(CELL_MAPPINGS).where(CELL_MAPPINGS.c.uuid == uuid)
    api.execute(row.values(updated_at=utc_now(), **values))
