"""``runs cancel``, ``pause``, ``resume``, ``set``, ``retry``, ``hold`` and ``release``."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import click

from cli.output import put, put_json, say
from cli.run_options import Format
from cli.runs.listing import hold_in_words, say_hold
from cli.runs.store import conductor_of, connect, load_configuration
from jobs import dates
from runs.caller import caller_at_host
from runs.orders import MappedNow
from runs.records import Hold, RunState, Wish
from runs.rules import Adjustment, NotPossible, all_runs_pause

IMPOSSIBLE = 1
"""The exit code where the state of the run does not allow it."""


def cancel(run: str) -> int:
    """Ask a run to end."""
    conductor, _ = connect()
    before = conductor.store.run(run)
    conductor.cancel(run, caller_at_host())
    if before.state is RunState.ENDED:
        say(f"Run {run} had already ended, with exit code {before.exit_code}")
    elif before.wish is Wish.CANCEL:
        say(f"Run {run} was already asked to end")
    return 0


def pause(run: str) -> int:
    """Ask a run to pause."""
    conductor, _ = connect()
    before = conductor.store.run(run)
    if not conductor.pause(run, caller_at_host()):
        say(f"Run {run} has ended, or is about to end: it cannot be paused")
        return IMPOSSIBLE
    if before.wish is Wish.PAUSE:
        say(f"Run {run} was already asked to pause")
    return 0


def resume(run: str) -> int:
    """Let a run go on."""
    conductor, zone = connect()
    before = conductor.store.run(run)
    if not conductor.resume(run, caller_at_host()):
        say(f"Run {run} has ended, or is about to end: it cannot be resumed")
        return IMPOSSIBLE
    if before.wish is not Wish.PAUSE:
        say(f"Run {run} was not paused")
    say_hold(conductor.store, zone)
    return 0


def adjust(run: str, settings: Sequence[str]) -> int:
    """Change what may be changed while a run goes on.

    :param settings: NAME=VALUE each
    """
    conductor, zone = connect()
    words: dict[str, str] = {}
    for name, value in map(_pair, settings):
        if name in words:
            raise click.UsageError(f"{name} is given twice.")
        words[name] = value
    now = datetime.fromtimestamp(conductor.store.now(), UTC)
    until = _closing_time(words.pop("until"), zone, now) if "until" in words else None
    change = Adjustment(words, until, ", ".join(f"set {setting}" for setting in settings))
    try:
        conductor.adjust(run, change, caller_at_host())
    except NotPossible as problem:
        say(f"Run {run}: {problem}")
        return IMPOSSIBLE
    return 0


def retry(run: str, form: Format) -> int:
    """Work the failed cells of a run again."""
    conf = load_configuration()
    conductor = conductor_of(conf)
    try:
        started = conductor.retry(run, caller_at_host(), MappedNow(conf, conductor.actions))
    except NotPossible as problem:
        say(f"Run {run}: {problem}")
        return IMPOSSIBLE
    if form == "json":
        put_json({"runs": started})
    else:
        for name in started:
            put(name)
    return 0


def hold(reason: str, span: timedelta | None) -> int:
    """Let all runs pause."""
    conductor, zone = connect()
    now = conductor.store.now()
    before = conductor.store.hold()
    conductor.hold(
        Hold(reason, caller_at_host(), now, now + span.total_seconds() if span else None)
    )
    if before and all_runs_pause(before, now):
        say(f"This hold replaces another one: {hold_in_words(before, zone)}")
    return 0


def release() -> int:
    """Let all runs go on."""
    conductor, _ = connect()
    store = conductor.store
    if not all_runs_pause(store.hold(), store.now()):
        say("No runs were held")
    conductor.release()
    return 0


def _pair(setting: str) -> tuple[str, str]:
    name, equals, value = setting.partition("=")
    if not equals:
        raise click.UsageError(f"{setting!r} is not NAME=VALUE.")
    return name, value


def _closing_time(text: str, zone: ZoneInfo, now: datetime) -> float:
    """When the window is to close, in seconds since the epoch; infinite for none."""
    if text == "none":
        return float("inf")
    try:
        return dates.closing_time(text, zone, now).timestamp()
    except ValueError as error:
        raise click.UsageError(f"until: {error}; until=none opens it for good.") from None
