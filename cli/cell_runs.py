"""Running a cell action from the command line: which cells, one run at a time, and the audit line."""

import getpass
import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg
from sqlalchemy.exc import DBAPIError

from cli.output import say
from cli.progress import shown
from jobs.action import Action, ApiDatabaseProblem, CellResult, Limits, O, P, Target
from novadb import cells, settings
from novadb.engine import Database, reason
from novadb.errors import DatabaseProblem, UnsuitableSchema
from runs import exclusion
from runs.inline import InlineEngine, Listener

LOG = logging.getLogger("cellkeeper.audit")


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
    return [Target(cell, api, limits) for cell in chosen]


@dataclass(frozen=True)
class Runner:
    """Carries out actions for one command.

    :ivar concurrency: what the option says, or None
    :ivar wait: whether to wait for another run on the same databases
    :ivar stop: set when the run is to end after the current batches
    :ivar debugger: whether an unexpected error of a cell is raised, for ``--post-mortem``
    """

    conf: cfg.ConfigOpts
    concurrency: int | None
    wait: bool
    stop: threading.Event
    debugger: bool

    def run(
        self,
        action: Action[P, O],
        params: P,
        chosen: Sequence[Target],
        listeners: Sequence[Listener] = (),
        *,
        alone: bool = True,
    ) -> list[CellResult[O]]:
        """Carry an action out in cells and write the audit line.

        :param alone: whether another run of the action on one of these databases is waited for
        :raises exclusion.Busy: there is one, and the command must not wait
        """
        own = self.conf.cellkeeper
        try:
            with self._exclusively(action, chosen if alone and own.exclusion else ()):
                with shown(len(chosen), listeners) as listener:
                    concurrency = self.concurrency or own.concurrency
                    engine = InlineEngine(concurrency, own.concurrency_per_server, listener, self.stop)
                    results = engine.run(action, params, chosen)
        except exclusion.Interrupted:
            results = [CellResult(target.cell, action.nothing, complete=False) for target in chosen]
        self._audit(action, params, results)
        for result in results:
            if self.debugger and result.failure and result.failure.error:
                raise result.failure.error
        return results

    def _exclusively(self, action: Action[P, O], chosen: Sequence[Target]) -> AbstractContextManager[None]:
        """The context in which no other run of the action works on these databases, from this host."""
        folder = self.conf.cellkeeper.lock_path
        return exclusion.hold(
            Path(folder) if folder else exclusion.default_folder(),
            action.name,
            [target.cell.database.fingerprint for target in chosen if isinstance(target.cell.database, Database)],
            wait=self.wait,
            stop=self.stop,
            on_wait=lambda holder: say(f"Waiting for another run: {holder}"),
        )

    def _audit(self, action: Action[P, O], params: P, results: Sequence[CellResult[O]]) -> None:
        LOG.info(
            "%s by %s in %d cells: %d rows, %d cells failed, exit code %d",
            action.name,
            getpass.getuser(),
            len(results),
            sum(result.outcome.rows for result in results),
            sum(result.failure is not None for result in results),
            int(action.collapse(results, params)),
        )
