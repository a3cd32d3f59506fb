"""Running cell actions from the command line: in this process, or by workers."""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from oslo_config import cfg

from cli import configuration, window
from cli.output import put, put_json, say
from cli.progress import Several, shown
from cli.signals import Stop
from jobs import dates
from jobs.action import Action, CellResult, Failure, FailureKind, Scope, Target
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from runs import exclusion
from runs.caller import caller
from runs.inline import InlineEngine, Listener
from runs.records import Order
from settings.cellkeeper import time_zone

LOG = logging.getLogger("cellkeeper.audit")

PhaseOf = tuple[Action[Any, Any], Any]
"""An action and its parameters."""
Results = list[CellResult[Any]]


@dataclass(frozen=True)
class Runner:
    """Carries out actions for one command.

    :ivar concurrency: what the option says, or None
    :ivar wait: whether to wait for another run on the same databases
    :ivar detach: whether to leave the run to the workers
    :ivar stop: set when the run is to end after the current batches
    :ivar debugger: whether an unexpected error of a cell is raised, for ``--post-mortem``
    :ivar until: what the option ``--until`` says, or None
    """

    conf: cfg.ConfigOpts
    concurrency: int | None
    wait: bool
    detach: bool
    stop: Stop
    debugger: bool
    until: str | None = None

    def run(
        self,
        phases: Sequence[PhaseOf],
        chosen: Sequence[Target],
        listeners: Sequence[Listener] = (),
        counting: PhaseOf | None = None,
    ) -> list[Results]:
        """Carry out an action in cells, and what follows if it wrote rows.

        The cells go to workers if there is a broker and they are mapped: what ``[database]`` names here may be
        another database there.

        :param listeners: of the first phase
        :param counting: what looks for what is left when the maintenance window closes
        :returns: the results of each phase that was come to, in the order of ``chosen``
        :raises exclusion.Busy: another run is at work on one of the databases, and the command must not wait
        :raises click.exceptions.Exit: the run is started, and left to the workers
        :raises DatabaseProblem: the run cannot be meant like this
        """
        until = self._closing_time()
        if self._has_broker() and all(target.cell.uuid for target in chosen):
            done = self._by_workers(phases, chosen, listeners, until)
        elif self.detach or configuration.run_wanted():
            raise DatabaseProblem("--detach and --run-id need workers: broker_url in section [celery], and --all-cells")
        else:
            with window.closing(self.stop, until):
                done = self._inline(phases, chosen, listeners)
        if until and time.time() >= until.timestamp():
            self.stop.set()
            window.say_left(until, done[-1], chosen, counting if len(done) == 1 else None, self.conf)
            for action, _ in phases[len(done) :]:
                say(f"{action.name} was not begun")
        return done

    def _closing_time(self) -> datetime | None:
        """When the maintenance window closes."""
        if not self.until:
            return None
        now = datetime.now(UTC)
        closes = dates.closing_time(self.until, time_zone(self.conf), now)
        if closes <= now:
            raise DatabaseProblem(f"--until {self.until}: this moment has passed, nothing is begun")
        return closes

    def _has_broker(self) -> bool:
        return bool(self.conf.celery.broker_url)

    def _inline(
        self, phases: Sequence[PhaseOf], chosen: Sequence[Target], listeners: Sequence[Listener]
    ) -> list[Results]:
        own = self.conf.cellkeeper
        done: list[Results] = []
        with shown(len(chosen), self.stop) as progress:
            for action, params in phases:
                listener = Several([progress, *(listeners if not done else ())])
                concurrency = self.concurrency or own.concurrency
                engine = InlineEngine(concurrency, own.concurrency_per_server, listener, self.stop)
                try:
                    with exclusively(self.conf, action.name, _held(action, chosen), self.wait, self.stop):
                        done.append(engine.run(action, params, chosen))
                except exclusion.Interrupted:
                    done.append([CellResult(target.cell, action.nothing, complete=False) for target in chosen])
                self._audit(action, params, done[-1])
                if self.stop.is_set() or not any(result.outcome.rows for result in done[0]):
                    break
        self._raise_unexpected(done)
        return done

    def _audit(self, action: Action[Any, Any], params: Any, results: Results) -> None:
        LOG.info(
            "%s by %s in %d cells: %d rows, %d cells failed, exit code %d",
            action.name,
            caller(),
            len(results),
            sum(result.outcome.rows for result in results),
            sum(result.failure is not None for result in results),
            int(action.collapse(results, params)),
        )

    def _raise_unexpected(self, done: Sequence[Results]) -> None:
        for results in done:
            for result in results:
                if self.debugger and result.failure and result.failure.error:
                    raise result.failure.error

    def _by_workers(
        self,
        phases: Sequence[PhaseOf],
        chosen: Sequence[Target],
        listeners: Sequence[Listener],
        until: datetime | None,
    ) -> list[Results]:
        from workers import app, redis_client
        from workers.engine import CeleryEngine, order_of

        redis_client.check_store(self.conf)
        app.configure(self.conf)
        engine = CeleryEngine(app.conductor(), self.stop)
        order = order_of(
            phases,
            [target.cell for target in chosen],
            until=until.timestamp() if until else None,
            run=configuration.run_wanted(),
        )
        with window.closing(self.stop, until):
            started = engine.start(order, wait=self.wait, on_wait=_say_waiting)
        if not started:
            action, _ = phases[0]
            return [[CellResult(target.cell, action.nothing, complete=False) for target in chosen]]
        _check_same(order, engine.order(order.id))
        if self.detach:
            _put_run(order.id)
            raise click.exceptions.Exit(0)
        self.stop.farewell = f"The run goes on: cellkeeper runs wait {order.id}, or cancel it: runs cancel {order.id}"
        with shown(len(chosen), self.stop) as progress:
            _, done = engine.follow(order.id, [Several([progress, *listeners]), progress])
        return [_in_order(action, results, chosen) for (action, _), results in zip(phases, done, strict=False)]


def exclusively(
    conf: cfg.ConfigOpts, name: str, databases: Sequence[Database | DatabaseProblem], wait: bool, stop: Stop
) -> AbstractContextManager[None]:
    """The context in which no other run of an action works on these databases, from this host.

    :param name: of the action
    :raises exclusion.Busy: another run is at work on one of them, and the command must not wait
    :raises exclusion.Interrupted: the wait was called off
    """
    own = conf.cellkeeper
    return exclusion.hold(
        Path(own.lock_path) if own.lock_path else None,
        name,
        [database.fingerprint for database in databases if own.exclusion and isinstance(database, Database)],
        wait=wait,
        stop=stop,
        on_wait=_say_waiting,
    )


def _held(action: Action[Any, Any], chosen: Sequence[Target]) -> list[Database | DatabaseProblem]:
    """The databases that another run of the action keeps off meanwhile."""
    if not action.writes:
        return []
    if action.scope is Scope.CLOUD:
        return [target.need_api() for target in chosen]
    return [target.cell.database for target in chosen]


def _in_order(action: Action[Any, Any], results: Results, chosen: Sequence[Target]) -> Results:
    """The results of workers with the caller's cells; those that could not be sent failed."""
    by_uuid = {result.cell.uuid: result for result in results}
    return [
        replace(by_uuid[target.cell.uuid], cell=target.cell)
        if target.cell.uuid in by_uuid
        else CellResult(
            target.cell, action.nothing, Failure(FailureKind.CELL, str(target.cell.database)), complete=False
        )
        for target in chosen
    ]


def _check_same(wanted: Order, there: Order) -> None:
    """See that the run of this name is one of this command: it may have been started before.

    :raises DatabaseProblem: it is another command's
    """
    actions = [phase.action for phase in there.phases]
    if actions != [phase.action for phase in wanted.phases]:
        raise DatabaseProblem(f"There is a run {there.id} already, of {' and '.join(actions)}: choose another --run-id")


def _put_run(run: str) -> None:
    """Print the id of a run, in the format that the command was asked for."""
    if click.get_current_context().params.get("format") == "json":
        put_json({"run": run})
    else:
        put(run)


def _say_waiting(holder: str) -> None:
    say(f"Waiting for another run: {holder}")
