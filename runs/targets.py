"""Which databases a process works on, by its own configuration."""

from collections.abc import Sequence

from oslo_config import cfg
from sqlalchemy.exc import DBAPIError

from clients import hypervisor
from clients.hypervisor import HypervisorProblem, Hypervisors
from jobs.action import ApiDatabaseProblem, Limits, Target
from novadb import cells, settings
from novadb.engine import Database, reason
from novadb.errors import DatabaseProblem, UnsuitableSchema


def own_database(conf: cfg.ConfigOpts) -> Database:
    """``[database]/connection``.

    :raises DatabaseProblem: it is not configured, or no URL
    """
    name = "the configured database"
    return Database(settings.connection_url(conf, "database"), name, settings.timeouts(conf))


def api_database(conf: cfg.ConfigOpts) -> Database:
    """``[api_database]/connection``.

    :raises ApiDatabaseProblem: it is not configured, or no URL
    """
    try:
        return Database(settings.connection_url(conf, "api_database"), "the API database", settings.timeouts(conf))
    except DatabaseProblem as problem:
        raise ApiDatabaseProblem(str(problem)) from problem


def mapped_cells(conf: cfg.ConfigOpts, api: Database) -> list[cells.Cell]:
    """All cells of the API database.

    :raises ApiDatabaseProblem: it cannot be read
    """
    try:
        with api.connect() as connection:
            return cells.read(connection, conf.database.connection, settings.timeouts(conf))
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


def targets(conf: cfg.ConfigOpts, chosen: Sequence[cells.Cell], api: Database | None) -> list[Target]:
    """What an action needs to work in each of the cells."""
    limits = Limits(conf.cellkeeper.tree_ceiling, conf.cellkeeper.purge_chunk)
    reach = hypervisors(conf)
    return [Target(cell, api, limits, reach) for cell in chosen]


def hypervisors(conf: cfg.ConfigOpts) -> Hypervisors | HypervisorProblem:
    """The hypervisors of the cloud, or why they cannot be asked."""
    own = conf.cellkeeper
    try:
        return hypervisor.usable(conf.libvirt.connection_uri, own.hypervisor_timeout, own.hypervisor_concurrency)
    except HypervisorProblem as problem:
        return problem
