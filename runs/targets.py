"""Which databases a process works on, by its own configuration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from oslo_config import cfg
from sqlalchemy.exc import DBAPIError

from clients import hypervisor
from clients.hypervisor import HypervisorProblem, Hypervisors
from jobs.action import ApiDatabaseProblem, Limits, Target
from novadb import cells
from novadb.engine import Database, reason
from novadb.errors import DatabaseProblem, UnsuitableSchema
from settings.databases import connection_url, timeouts
from settings.errors import NotConfigured

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
    return Database(url, name, timeouts(conf))


def mapped_cells(conf: cfg.ConfigOpts, api: Database) -> list[cells.Cell]:
    """All cells of the API database.

    :raises ApiDatabaseProblem: it cannot be read
    """
    try:
        with api.connect() as connection:
            return cells.read(connection, conf.database.connection, timeouts(conf))
    except DatabaseProblem as problem:
        raise ApiDatabaseProblem(str(problem)) from problem


def own_cell(conf: cfg.ConfigOpts, api: Database, mapped: Sequence[cells.Cell]) -> cells.Cell:
    """The configured database as a cell, with the ids by which instances are mapped to it.

    :raises DatabaseProblem: one of the two databases cannot be used
    """
    own = own_database(conf)
    try:
        with api.connect() as api_connection, own.connect() as connection:
            return cells.own_cell(mapped, own, api_connection, connection)
    except DBAPIError as error:
        raise UnsuitableSchema(f"{own}: {reason(error)}") from error


def targets(
    conf: cfg.ConfigOpts, chosen: Sequence[cells.Cell], api: Database | None, services: "Services | None" = None
) -> list[Target]:
    """What an action needs to work in each of the cells.

    :param services: for an action that asks Placement or Neutron: those of this process, one for all its cells
    """
    limits = Limits(conf.cellkeeper.tree_ceiling, conf.cellkeeper.purge_chunk)
    reach = hypervisors(conf)
    return [Target(cell, api, limits, reach, services) for cell in chosen]


def hypervisors(conf: cfg.ConfigOpts) -> Hypervisors | HypervisorProblem:
    """The hypervisors of the cloud, or why they cannot be asked."""
    own = conf.cellkeeper
    try:
        return hypervisor.usable(conf.libvirt.connection_uri, own.hypervisor_timeout, own.hypervisor_concurrency)
    except HypervisorProblem as problem:
        return problem
