"""The category ``runs``: what workers do and did, and how to steer it.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

import re
from datetime import datetime, timedelta
from typing import Any

import click

from cli.grammar import Category, Command
from cli.options import FORMAT, new_option
from cli.run_options import Format

runs = Category("runs", help="Commands for the runs of workers.")
RUN = click.argument("run")
AGE = re.compile(r"(\d+)([smhd])")
LONGEST_HOLD = timedelta(days=3650)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _PastTime(click.ParamType):  # type: ignore[type-arg]
    """A date or an age, as ``--before`` takes them."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from jobs import dates

        try:
            return dates.parse(value)
        except ValueError as error:
            self.fail(str(error))


class _Span(click.ParamType):  # type: ignore[type-arg]
    """A span of time: 30m, 2h, up to ten years."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        span = AGE.fullmatch(value)
        if span is None:
            self.fail(f"{value!r} is not a number with a unit, such as 30m, 2h or 1d.")
        try:
            length = timedelta(**{UNITS[span[2]]: int(span[1])})
        except (OverflowError, ValueError):  # of a number that no program calculates with
            length = timedelta.max
        if not timedelta() < length <= LONGEST_HOLD:
            self.fail(f"{value!r} is not between 1s and {LONGEST_HOLD.days}d.")
        return length


@runs.command("list", cls=Command)
@new_option("--limit", type=click.IntRange(min=1), metavar="N", help="Show the N newest runs only.")
@new_option("--failed", is_flag=True, help="Show only runs in which something failed.")
@new_option(
    "--since",
    type=_PastTime(),
    metavar="TIME",
    help="Show only runs that were ordered after a date, or 2d.",
)
@FORMAT
def list_runs(limit: int | None, failed: bool, since: datetime | None, format: Format) -> int:  # noqa: A002 - the option's name
    """List the runs that the store still keeps, the newest first.

    A run is waiting for others, running, pausing, paused or cancelling. One that has ended is ok,
    nothing to do, partly failed, failed, cancelled, or window closed.
    """
    from cli.runs.listing import list_runs

    return list_runs(limit, failed, since, format)


@runs.command("show", cls=Command)
@RUN
@FORMAT
def show_run(run: str, format: Format) -> int:  # noqa: A002 - the option's name
    """Show a run, cell by cell.

    For each cell: its state, rows, rate, ETA, blocked rows, worker and times. Also who paused or
    changed the run, and when.

    The rate is that of the last minute; for a cell that has ended, the average. There is an ETA
    where it is known how much is left.
    """
    from cli.runs.showing import show_run

    return show_run(run, format)


@runs.command("history", cls=Command)
@new_option("--action", metavar="NAME", help="Show only runs of this action, such as db.purge.")
@new_option(
    "--since",
    type=_PastTime(),
    default="90d",
    show_default=True,
    metavar="TIME",
    help="A date, or an age.",
)
@FORMAT
def show_history(action: str | None, since: datetime, format: Format) -> int:  # noqa: A002 - the option's name
    """List the runs that have ended, however long ago.

    The newest comes first.

    A line of each is kept for history_days (of section [celery]).
    """
    from cli.runs.listing import list_history

    return list_history(action, since, format)


@runs.command("wait", cls=Command)
@RUN
def wait_for_run(run: str) -> int:
    """Wait until a run has ended, and return its exit code. Ctrl-C ends the wait; the run goes
    on.
    """
    from cli.runs.showing import wait_for_run

    return wait_for_run(run)


@runs.command("cancel", cls=Command)
@RUN
def cancel_run(run: str) -> int:
    """Ask a run to end after the current batches."""
    from cli.runs.steering import cancel

    return cancel(run)


@runs.command("pause", cls=Command)
@RUN
def pause_run(run: str) -> int:
    """Ask a run to pause after the current batches. It keeps its databases: other runs wait for
    it.
    """
    from cli.runs.steering import pause

    return pause(run)


@runs.command("resume", cls=Command)
@RUN
def resume_run(run: str) -> int:
    """Let a paused run go on."""
    from cli.runs.steering import resume

    return resume(run)


@runs.command("set", cls=Command)
@RUN
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
def set_run(run: str, settings: tuple[str, ...]) -> int:
    """Change a run while it goes on: max_rows=500 sleep=1 until=05:00.

    max_rows and sleep can be set for an archive with --until-complete; until, the end of the
    maintenance window, for any run. until=none removes the window. The change takes effect with the
    next batch.
    """
    from cli.runs.steering import adjust

    return adjust(run, settings)


@runs.command("retry", cls=Command)
@RUN
@FORMAT
def retry_run(run: str, format: Format) -> int:  # noqa: A002 - the option's name
    """Retry the failed cells of an ended run in a new run; print its id."""
    from cli.runs.steering import retry

    return retry(run, format)


@runs.command("hold", cls=Command)
@new_option(
    "--reason",
    required=True,
    metavar="TEXT",
    help="Why; shown by runs list, runs show and new commands.",
)
@new_option(
    "--for",
    "span",
    type=_Span(),
    metavar="TIME",
    help="Release by itself after this time: 30m, 2h. By default never.",
)
def hold_runs(reason: str, span: timedelta | None) -> int:
    """Pause all runs after their current batches, until cellkeeper runs release."""
    from cli.runs.steering import hold

    return hold(reason, span)


@runs.command("release", cls=Command)
def release_runs() -> int:
    """End a hold: all runs go on."""
    from cli.runs.steering import release

    return release()
