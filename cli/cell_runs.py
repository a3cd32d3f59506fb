"""Running cell actions from the command line: in this process, or by workers."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from oslo_config import cfg

from cli import configuration, window
from cli.output import put, put_json, say
from cli.progress import Several, shown
from cli.run_options import RunOptions
from cli.signals import Stop
from jobs import dates
from jobs.action import Action, CellResult, Scope, Target
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from runs import exclusion, rules
from runs.follow import FinishedRun, Follower, Listener
from runs.local import LocalEngine
from runs.orders import PhaseOf, order_of, refs_of
from runs.records import Order
from runs.throttles import watch_maker
from settings.cellkeeper import time_zone
from throttle.servers import usable_throttle

Results = list[CellResult[Any]]


@dataclass(frozen=True)
class Runner:
    """Carries out actions for one command.

    :ivar stop: set when the run is to end after the current batches
    """

    conf: cfg.ConfigOpts
    options: RunOptions
    stop: Stop

    def run(
        self,
        phases: Sequence[PhaseOf],
        chosen: Sequence[Target],
        listeners: Sequence[Listener] = (),
        counting: PhaseOf | None = None,
    ) -> FinishedRun:
        """Carry out an action in cells, and what follows if it wrote rows.

        The cells go to workers if there is a broker and they are mapped: what ``[database]`` names
        here may be another database there.

        :param listeners: of the first phase
        :param counting: what looks for what is left when the maintenance window closes
        :returns: the run with the results of each phase that it came to, in the order of ``chosen``
        :raises exclusion.Busy: another run is at work on one of the databases, and the command must
            not wait
        :raises click.exceptions.Exit: the run is started, and left to the workers
        :raises DatabaseProblem: these options do not combine
        :raises InvalidSetting: the section ``[throttle]`` cannot be used
        """
        if not self.options.no_throttle:
            usable_throttle(self.conf)
        until = self._closing_time()
        if self._has_broker() and all(target.cell.uuid for target in chosen):
            finished = self._by_workers(phases, chosen, listeners, until)
        elif self.options.detach or self.options.run_id:
            raise DatabaseProblem(
                "--detach and --run-id need workers: broker_url in section [celery], and "
                "--all-cells"
            )
        else:
            finished = self._locally(phases, chosen, listeners, until)
        self._say_who_cancelled(finished)
        if until and rules.has_closed(finished.run, finished.run.finished or time.time()):
            self.stop.set()
            counting = counting if len(finished.phases) == 1 else None
            window.say_left(until, finished.phases[-1], chosen, counting, self.conf)
            for action, _ in phases[len(finished.phases) :]:
                say(f"{action.name} was not begun")
        return finished

    def _say_who_cancelled(self, finished: FinishedRun) -> None:
        """Name whoever else has ended the run before its time."""
        if self.stop.is_set():
            return
        for steering in finished.run.steering:
            if steering.what == "cancel":
                say(f"The run was ended early by {steering.by}")

    def _closing_time(self) -> datetime | None:
        """When the maintenance window closes."""
        if not self.options.until:
            return None
        now = datetime.now(UTC)
        closes = dates.closing_time(self.options.until, time_zone(self.conf), now)
        if closes <= now:
            raise DatabaseProblem(
                f"--until {self.options.until} is in the past; nothing was started"
            )
        return closes

    def _has_broker(self) -> bool:
        return bool(self.conf.celery.broker_url)

    def _locally(
        self,
        phases: Sequence[PhaseOf],
        chosen: Sequence[Target],
        listeners: Sequence[Listener],
        until: datetime | None,
    ) -> FinishedRun:
        """Work the cells on threads of this process."""
        own = self.conf.cellkeeper
        make_watch = None
        if not self.options.no_throttle:
            make_watch = watch_maker(self.conf, lambda: [target.cell for target in chosen])
        with shown(len(chosen), self.stop) as progress, ExitStack() as locks:
            engine = LocalEngine(
                self.options.concurrency or own.concurrency,
                own.concurrency_per_server,
                [Several([progress, *listeners]), progress],
                self.stop,
                make_watch,
            )
            with suppress(exclusion.Interrupted), window.closing(self.stop, until):
                for action, _ in phases:
                    databases = _exclusive_databases(action, chosen)
                    wait = not self.options.no_wait
                    locks.enter_context(
                        exclusively(self.conf, action.name, databases, wait, self.stop)
                    )
            finished = engine.run(phases, chosen, until.timestamp() if until else None)
        self._raise_unexpected(finished)
        return finished

    def _raise_unexpected(self, finished: FinishedRun) -> None:
        """Raise what nobody thought of in a cell, where ``--post-mortem`` is to show it."""
        if not configuration.debugger_wanted():
            return
        for results in finished.phases:
            for result in results:
                if result.failure and result.failure.error:
                    raise result.failure.error

    def _by_workers(
        self,
        phases: Sequence[PhaseOf],
        chosen: Sequence[Target],
        listeners: Sequence[Listener],
        until: datetime | None,
    ) -> FinishedRun:
        """Leave the cells to workers, and follow the run to its end."""
        from cli.runs.listing import say_hold
        from cli.runs.store import conductor_of

        conductor = conductor_of(self.conf, ordering=True)
        order = order_of(
            phases,
            until=until.timestamp() if until else None,
            run=self.options.run_id,
            latest=configuration.latest_wanted(),
            throttle=not self.options.no_throttle,
        )
        say_hold(conductor.store, time_zone(self.conf))
        run = conductor.start(order, refs_of(chosen, phases), wait=not self.options.no_wait)
        _check_same_command(order, run.order)
        if self.options.detach:
            _put_run(order.id, self.options)
            raise click.exceptions.Exit(0)
        # Whether the store has heard of the first Ctrl-C is not known before it has answered.
        self.stop.farewell = f"The run may go on: cellkeeper runs cancel {order.id}"

        def on_stop() -> None:
            self.stop.farewell = (
                f"The run stops after its current batches: cellkeeper runs wait {order.id}"
            )

        with shown(len(chosen), self.stop) as progress:
            listeners = [Several([progress, *listeners]), progress]
            finished = Follower(
                conductor, self.stop, listeners, on_stop=on_stop, on_wait=say_waiting
            ).follow(order.id)
        return replace(finished, phases=[_in_order(results, chosen) for results in finished.phases])


def exclusively(
    conf: cfg.ConfigOpts,
    name: str,
    databases: Sequence[Database | DatabaseProblem],
    wait: bool,
    stop: Stop,
) -> AbstractContextManager[None]:
    """The context in which no other run of an action works on these databases, from this host.

    :param name: of the action
    :raises exclusion.Busy: another run is at work on one of them, and the command must not wait
    :raises exclusion.Interrupted: the wait was called off
    """
    own = conf.cellkeeper
    return exclusion.hold_databases(
        Path(own.lock_path) if own.lock_path else None,
        name,
        [
            database.fingerprint
            for database in databases
            if own.exclusion and isinstance(database, Database)
        ],
        wait=wait,
        stop=stop,
        on_wait=say_waiting,
    )


def _exclusive_databases(
    action: Action[Any, Any], chosen: Sequence[Target]
) -> list[Database | DatabaseProblem]:
    """The databases that another run of the action keeps off meanwhile."""
    if not action.writes:
        return []
    if action.scope is Scope.CLOUD:
        return [target.need_api() for target in chosen]
    return [target.cell.database for target in chosen]


def _in_order(results: Results, chosen: Sequence[Target]) -> Results:
    """The results of workers with the caller's cells, as far as it knows them."""
    own_cells = {target.cell.uuid: target.cell for target in chosen}
    return [
        replace(result, cell=own_cells.get(result.cell.uuid, result.cell)) for result in results
    ]


def _check_same_command(wanted: Order, there: Order) -> None:
    """See that the run of this name is one of this command: it may have been started before.

    :raises DatabaseProblem: it is another command's
    """
    actions = [phase.action for phase in there.phases]
    if actions != [phase.action for phase in wanted.phases]:
        raise DatabaseProblem(
            f"There is a run {there.id} already, of {' and '.join(actions)}: choose another "
            "--run-id"
        )


def _put_run(run: str, options: RunOptions) -> None:
    """Print the id of a run, in the format that the command was asked for."""
    if options.json:
        put_json({"run": run})
    else:
        put(run)


def say_waiting(holder: str) -> None:
    """Say for whom a run waits."""
    say(f"Waiting for another run: {holder}")
