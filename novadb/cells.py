"""The registry of cells: the rows of ``cell_mappings`` in the API database."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError

from novadb.engine import Database, is_transient, server_message
from novadb.errors import DatabaseProblem, Unreachable, UnsuitableSchema
from novadb.urls import expand_template
from settings.databases import Timeouts

CELL0: Final = "00000000-0000-0000-0000-000000000000"
# How many instances of an unmapped database are asked for their mapping; see own_cell.
SAMPLED_INSTANCES: Final = 100


@dataclass(frozen=True)
class Cell:
    """One cell database to work on.

    :ivar uuid: of the cell mapping; None for ``[database]/connection`` where it is no cell's
    :ivar name: of the cell mapping; optional there, and not unique
    :ivar mapping_ids: ``cell_mappings.id`` of every mapping that names this database: mostly one
    :ivar database: where it is, or why that cannot be told
    """

    uuid: str | None
    name: str | None
    mapping_ids: frozenset[int]
    database: Database | DatabaseProblem

    @classmethod
    def unmapped(cls, database: Database, mapping_ids: frozenset[int] = frozenset()) -> Self:
        """The configured database, which the stock tool calls by no name."""
        return cls(None, None, mapping_ids, database)

    @property
    def identity(self) -> str:
        """``uuid(name)`` or ``uuid``, as Nova prints cells; ``DB`` for the configured database."""
        if self.uuid is None:
            return "DB"
        return f"{self.uuid}({self.name})" if self.name else self.uuid

    @property
    def is_cell0(self) -> bool:
        """Whether the database is cell0's and no other cell's: then nothing runs there."""
        return self.uuid == CELL0 and len(self.mapping_ids) == 1

    @property
    def label(self) -> str:
        """The short name for people."""
        return self.name or self.uuid or "DB"


def read_cells(api: Connection, template_base: str | None, timeouts: Timeouts, parameters: str = "") -> list[Cell]:
    """All cells, in ascending order of their id: cell0 and disabled ones included.

    :param api: a connection to the API database
    :param template_base: ``[database]/connection``, which fills templated URLs
    :param parameters: ``[database]/connection_parameters``, for the database of each cell
    :returns: one cell per database; a second mapping of the same database adds its id to the first
    :raises UnsuitableSchema: the database is no API database
    :raises Unreachable: it went away
    :source: nova-manage: its maintenance commands walk all mappings in order of id
    """
    try:
        rows = api.execute(text("SELECT id, uuid, name, database_connection FROM cell_mappings ORDER BY id")).all()
    except DBAPIError as error:
        if is_transient(error):
            raise Unreachable(f"The API database cannot be read: {server_message(error)}") from error
        raise UnsuitableSchema(
            f"The API database has no readable table cell_mappings: {server_message(error)}"
        ) from error
    cells: dict[str, Cell] = {}
    for number, uuid, name, url in rows:
        label = name or uuid
        try:
            url = expand_template(url or "", template_base)
            database: Database | DatabaseProblem = Database(url, label, timeouts, parameters)
        except DatabaseProblem as problem:
            database = problem
        key = database.fingerprint if isinstance(database, Database) else uuid
        twin = cells.get(key)
        cells[key] = (
            replace(twin, mapping_ids=twin.mapping_ids | {number})
            if twin
            else Cell(uuid, name, frozenset({number}), database)
        )
    return list(cells.values())


def mapped_cell_ids(api: Connection, instance: str) -> list[int | None]:
    """The ``cell_id`` of an instance's mapping: None where it is not scheduled yet; nothing without a mapping."""
    statement = text("SELECT cell_id FROM instance_mappings WHERE instance_uuid = :uuid")
    return list(api.execute(statement, {"uuid": instance}).scalars())


def find_configured_cell(cells: Iterable[Cell], database: Database, api: Connection, own: Connection) -> Cell:
    """``[database]/connection`` as a cell, with the mapping ids that stand for it.

    Two names of one server (a virtual address, ``localhost``) hide which mapping is meant. Then the
    instances of the database tell: most of those mapped are mapped to it.

    :param cells: the registry
    :param database: ``[database]/connection``
    :param api: a connection to the API database
    :param own: a connection to ``database``
    """
    for cell in cells:
        if isinstance(cell.database, Database) and cell.database.fingerprint == database.fingerprint:
            return Cell.unmapped(database, cell.mapping_ids)
    uuids = (
        own.execute(text("SELECT uuid FROM instances ORDER BY id DESC LIMIT :n"), {"n": SAMPLED_INSTANCES})
        .scalars()
        .all()
    )
    mapped = text("SELECT cell_id FROM instance_mappings WHERE instance_uuid IN :uuids AND cell_id IS NOT NULL")
    votes = Counter(api.execute(mapped.bindparams(bindparam("uuids", uuids, expanding=True))).scalars())
    return Cell.unmapped(database, frozenset(number for number, _ in votes.most_common(1)))


def find_cell_of_host(api: Connection, host: str) -> int | None:
    """The ``cell_mappings.id`` of the cell that a host is mapped to; None: it is mapped to none."""
    mapped = text("SELECT cell_id FROM host_mappings WHERE host = :host")
    number: int | None = api.execute(mapped, {"host": host}).scalar()
    return number
