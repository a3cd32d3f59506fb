"""The servers that cells are on, with what is known of their replicas."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from oslo_config import cfg

from novadb.cells import Cell
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.names import fold_name
from settings.databases import Timeouts
from settings.errors import InvalidSetting
from settings.throttle import ThrottleSettings, throttle_settings


@dataclass
class Server:
    """A database server.

    :ivar database: one of the cells' databases on it
    :ivar cells: the labels of all cells on it
    :ivar replicas: of it, as far as the configuration names them
    """

    database: Database
    cells: list[str] = field(default_factory=list)
    replicas: list[Database] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Host and port."""
        return self.database.server


def servers_of(
    cells: Sequence[Cell], settings: ThrottleSettings, own_replica: str = ""
) -> list[Server]:
    """The servers of cells, in the order of their first cells. A cell whose URL cannot be used is
    on none.

    :param own_replica: the URL of a replica of the configured database: Nova's ``slave_connection``
    :raises DatabaseProblem: the URL of a replica cannot be used
    """
    servers: dict[str, Server] = {}
    by_name: dict[str, Server] = {}
    for cell in cells:
        if isinstance(cell.database, DatabaseProblem) or cell.database.location.port is None:
            continue
        server = servers.setdefault(cell.database.server, Server(cell.database))
        server.cells.append(cell.label)
        for name in (cell.uuid, cell.name):
            if name:
                by_name[fold_name(name)] = server
        if cell.uuid is None and own_replica and settings.max_lag:
            server.replicas.append(replica_of(own_replica, cell.label))
    for name, url in settings.replicas:
        if fold_name(name) in by_name:
            by_name[fold_name(name)].replicas.append(replica_of(url, name))
    return list(servers.values())


def usable_throttle(conf: cfg.ConfigOpts) -> ThrottleSettings:
    """The limits as configured, with every URL of a replica looked at: nobody is to find out in the
    middle of a run.

    :raises InvalidSetting: a value of the section cannot be used, or the URL of a replica whose lag
        counts
    """
    settings = throttle_settings(conf)
    for cell, url in settings.replicas:
        _check_url(url, cell, "replica in section [throttle]")
    if settings.max_lag and conf.database.slave_connection:
        _check_url(
            conf.database.slave_connection,
            "the configured database",
            "slave_connection in section [database]",
        )
    return settings


def _check_url(url: str, cell: str, option: str) -> None:
    """:raises InvalidSetting: the URL of a replica cannot be used; it is not repeated"""
    try:
        replica_of(url, cell)
    except DatabaseProblem as problem:
        raise InvalidSetting(f"{option}: {problem}") from None


NO_SUCH_CELL: Final = "replica in section [throttle]: there is no cell {}"
"""What is said of a name that ``cells_unknown`` returns."""


def cells_unknown(cells: Sequence[Cell], settings: ThrottleSettings) -> list[str]:
    """The names for which a replica is configured, and which no cell has.

    :param cells: all of the cloud
    """
    known = {fold_name(name) for cell in cells for name in (cell.uuid, cell.name) if name}
    return [name for name, _ in settings.replicas if fold_name(name) not in known]


def replica_of(url: str, cell: str) -> Database:
    """A replica of a cell's database.

    :param cell: its name, for messages
    :raises DatabaseProblem: the URL cannot be used; it is not repeated
    """
    return Database(url, f"the replica of {cell}", Timeouts())
