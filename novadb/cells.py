"""The registry of cells: the rows of ``cell_mappings`` in the API database."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError

from novadb.engine import Database, is_transient, server_message
from novadb.errors import DatabaseProblem, Unreachable, UnsuitableSchema
from novadb.urls import expand_template
from settings.databases import Timeouts

CELL0: Final = "00000000-0000-0000-0000-000000000000"
# How many instances of the configured database vote on which mapping is its own.
SAMPLED_INSTANCES: Final = 100


@dataclass(frozen=True)
class Cell:
    """One cell database to work on.

    :ivar uuid: of the cell mapping; None for ``[database]/connection`` where it is not a cell's
    :ivar name: of the cell mapping; optional there, and not unique
    :ivar mapping_ids: ``cell_mappings.id`` of every mapping that names this database, mostly one
    :ivar database: the database, or why its URL cannot be used
    """

    uuid: str | None
    name: str | None
    mapping_ids: frozenset[int]
    database: Database | DatabaseProblem

    @classmethod
    def unmapped(cls, database: Database, mapping_ids: frozenset[int] = frozenset()) -> Self:
        """The configured database, for which the stock tool has no name."""
        return cls(None, None, mapping_ids, database)

    @property
    def identity(self) -> str:
        """``uuid(name)`` or ``uuid``, as Nova prints cells; ``DB`` for the configured database."""
        if self.uuid is None:
            return "DB"
        return f"{self.uuid}({self.name})" if self.name else self.uuid

    @property
    def is_cell0(self) -> bool:
        """Whether the database is that of cell0 alone: then no host runs instances there."""
        return self.uuid == CELL0 and len(self.mapping_ids) == 1

    @property
    def label(self) -> str:
        """The short name, for messages."""
        return self.name or self.uuid or "DB"


def read_cells(
    api: Connection, template_base: str | None, timeouts: Timeouts, parameters: str = ""
) -> list[Cell]:
    """All cells in ascending order of their id, cell0 and disabled ones included.

    :param api: a connection to the API database
    :param template_base: ``[database]/connection``, which fills templated URLs
    :param parameters: ``[database]/connection_parameters``, for the database of each cell
    :returns: one cell per database; a second mapping of the same database adds its id to the first
    :raises UnsuitableSchema: this is not an API database
    :raises Unreachable: the connection was lost
    :source: nova-manage: its maintenance commands walk all mappings in order of id
    """
    cells: dict[str, Cell] = {}
    for number, uuid, name, stored_url in _read_mapping_rows(api):
        try:
            url = expand_template(stored_url or "", template_base)
            database: Database | DatabaseProblem = Database(url, name or uuid, timeouts, parameters)
        except DatabaseProblem as problem:
            database = problem
        key = database.fingerprint if isinstance(database, Database) else uuid
        if known_cell := cells.get(key):
            cells[key] = replace(known_cell, mapping_ids=known_cell.mapping_ids | {number})
        else:
            cells[key] = Cell(uuid, name, frozenset({number}), database)
    return list(cells.values())


def _read_mapping_rows(api: Connection) -> Sequence[Any]:
    mappings = text("SELECT id, uuid, name, database_connection FROM cell_mappings ORDER BY id")
    try:
        return api.execute(mappings).all()
    except DBAPIError as error:
        message = server_message(error)
        if is_transient(error):
            raise Unreachable(f"The API database cannot be read: {message}") from error
        raise UnsuitableSchema(
            f"The API database has no readable table cell_mappings: {message}"
        ) from error


def mapped_cell_ids(api: Connection, instance: str) -> list[int | None]:
    """The cell of each mapping of an instance; None where it is not scheduled yet.

    :param instance: its UUID
    :returns: values of ``cell_mappings.id``; empty: the instance has no mapping
    """
    statement = text("SELECT cell_id FROM instance_mappings WHERE instance_uuid = :uuid")
    return list(api.execute(statement, {"uuid": instance}).scalars())


def find_configured_cell(
    cells: Iterable[Cell], database: Database, api: Connection, own: Connection
) -> Cell:
    """``[database]/connection`` as a cell, with the mapping ids that stand for it.

    Two names of one server (a virtual address, ``localhost``) hide which mapping is meant. Then the
    instances of the database tell: most of those mapped are mapped to it.

    :param cells: the registry
    :param database: ``[database]/connection``
    :param api: a connection to the API database
    :param own: a connection to ``database``
    """
    for cell in cells:
        if isinstance(cell.database, DatabaseProblem):
            continue
        if cell.database.fingerprint == database.fingerprint:
            return Cell.unmapped(database, cell.mapping_ids)
    newest_instances = text("SELECT uuid FROM instances ORDER BY id DESC LIMIT :n")
    uuids = own.execute(newest_instances, {"n": SAMPLED_INSTANCES}).scalars().all()
    mapped = text(
        "SELECT cell_id FROM instance_mappings "
        "WHERE instance_uuid IN :uuids AND cell_id IS NOT NULL"
    ).bindparams(bindparam("uuids", uuids, expanding=True))
    votes = Counter(api.execute(mapped).scalars())
    return Cell.unmapped(database, frozenset(number for number, _ in votes.most_common(1)))


def find_cell_of_host(api: Connection, host: str) -> int | None:
    """The ``cell_mappings.id`` of the cell that a host is mapped to; None: it is not mapped."""
    mapped = text("SELECT cell_id FROM host_mappings WHERE host = :host")
    number: int | None = api.execute(mapped, {"host": host}).scalar()
    return number
