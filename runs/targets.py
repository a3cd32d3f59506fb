"""Which databases a process works on, by its own configuration."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from oslo_config import cfg
from sqlalchemy.exc import DBAPIError

from clients import hypervisor
from clients.hypervisor import HypervisorProblem, Hypervisors
from jobs.action import ApiDatabaseProblem, Limits, Target
from novadb import cells
from novadb.engine import Database, server_message
from novadb.errors import DatabaseProblem, UnsuitableSchema
from settings.databases import connection_timeouts, connection_url
from settings.errors import NotConfigured

FRESH_FOR: Final = 10.0
"""Seconds for which what was read of the registry of cells is taken as true."""

if TYPE_CHECKING:
    from clients.services import Services


def own_database(conf: cfg.ConfigOpts) -> Database:
    """``[database]/connection``.

    :raises DatabaseProblem: it is not configured, or no URL
    """
    return _database(conf, "database", "the configured database")


def api_database(conf: cfg.ConfigOpts) -> Database:
    """``[api_database]/connection``.

    :raises ApiDatabaseProblem: it is not configured, or no URL
    """
    try:
        return _database(conf, "api_database", "the API database")
    except DatabaseProblem as problem:
        raise ApiDatabaseProblem(str(problem)) from problem


def _database(conf: cfg.ConfigOpts, section: str, name: str) -> Database:
    """The database that a section names.

    :param name: for people
    :raises DatabaseProblem: it names none, or something that is no URL
    """
    try:
        url = connection_url(conf, section)
    except NotConfigured as problem:
        raise DatabaseProblem(str(problem)) from problem
    return Database(url, name, connection_timeouts(conf), conf[section].connection_parameters)


def mapped_cells(conf: cfg.ConfigOpts, api: Database) -> list[cells.Cell]:
    """All cells of the API database.

    :raises ApiDatabaseProblem: it cannot be read
    """
    try:
        with api.connect() as connection:
            own = conf.database
            return cells.read_cells(
                connection, own.connection, connection_timeouts(conf), own.connection_parameters
            )
    except DatabaseProblem as problem:
        raise ApiDatabaseProblem(str(problem)) from problem


def own_cell(conf: cfg.ConfigOpts, api: Database, mapped: Sequence[cells.Cell]) -> cells.Cell:
    """The configured database as a cell, with the ids by which instances are mapped to it.

    :raises DatabaseProblem: one of the two databases cannot be used
    """
    own = own_database(conf)
    try:
        with api.connect() as api_connection, own.connect() as connection:
            return cells.find_configured_cell(mapped, own, api_connection, connection)
    except DBAPIError as error:
        raise UnsuitableSchema(f"{own}: {server_message(error)}") from error


def targets(
    conf: cfg.ConfigOpts,
    chosen: Sequence[cells.Cell],
    api: Database | None,
    services: "Services | None" = None,
) -> list[Target]:
    """What an action needs to work in each of the cells.

    :param services: for an action that asks Placement or Neutron: those of this process, one for
        all its cells
    """
    own = conf.cellkeeper
    limits = Limits(own.tree_ceiling, own.purge_chunk, own.transaction_seconds)
    reach = hypervisors(conf)
    return [Target(cell, api, limits, reach, services) for cell in chosen]


def hypervisors(conf: cfg.ConfigOpts) -> Hypervisors | HypervisorProblem:
    """The hypervisors of the cloud, or why they cannot be asked."""
    own = conf.cellkeeper
    try:
        return hypervisor.configure_hypervisors(
            conf.libvirt.connection_uri, own.hypervisor_timeout, own.hypervisor_concurrency
        )
    except HypervisorProblem as problem:
        return problem


class Registry:
    """The cells by the API database. Within a run they are read again every few seconds, not for
    each cell.
    """

    def __init__(self, conf: cfg.ConfigOpts, services: "Services") -> None:
        """:param services: of this process, for all its cells"""
        self._conf = conf
        self._services = services
        self._api: Database | None = None
        self._cells: dict[str | None, cells.Cell] = {}
        self._run = ""
        self._read_at = 0.0

    def cells(self) -> list[cells.Cell]:
        """All cells, as they were read last."""
        return list(self._cells.values())

    def target(self, run: str, uuid: str) -> Target:
        """A cell by this process's own configuration.

        :param run: whose cell it is; each run is told what is so at its begin
        :raises DatabaseProblem: the API database cannot be read, or has no such cell
        """
        is_fresh = run == self._run and time.monotonic() - self._read_at < FRESH_FOR
        if uuid not in self._cells or not is_fresh:
            self._read()
            self._run = run
        if uuid not in self._cells:
            raise DatabaseProblem(f"{uuid}: no such cell is mapped in the API database")
        (target,) = targets(self._conf, [self._cells[uuid]], self._api, self._services)
        return target

    def _read(self) -> None:
        """Read all cells. Those that were known before make room first: of many, two sets would be
        megabytes.
        """
        self._cells = {}
        self._api = api_database(self._conf)
        self._cells = {cell.uuid: cell for cell in mapped_cells(self._conf, self._api)}
        self._read_at = time.monotonic()
