"""``beat``: read the schedule, refuse it if it is wrong, start what is due."""

import logging
from datetime import UTC, datetime
from typing import Final

from cli import configuration
from cli.grammar import MISCONFIGURED
from cli.output import say
from cli.schedule import reading
from cli.schedule.ordering import Orders
from cli.signals import graceful_stop
from schedules.beat import Beat
from schedules.entries import InvalidSchedule
from throttle.servers import usable_throttle
from workers.run import wait_until_usable

LOG = logging.getLogger("cellkeeper.beat")
AUDIT = logging.getLogger("cellkeeper.audit")
STOPPING: Final = (
    "Stopping once the current start is through; interrupt again to leave at once. Runs go on."
)


def run_beat() -> int:
    """Run until a signal ends it."""
    conf = reading.load(check=True)
    usable_throttle(conf)  # whatever it starts would be refused
    for logger in (LOG, AUDIT):  # a run may end while a beat looks after it
        logger.setLevel(logging.DEBUG if conf.debug else logging.INFO)
    firings = reading.firings(conf)
    try:
        entries = reading.read_strictly(conf)
    except InvalidSchedule as refused:
        for line in refused.lines:
            say(f"The schedule cannot be used: {line}")
        return MISCONFIGURED
    if not entries:
        say("Nothing is scheduled: name entries in the option enabled of section [schedule]")
        return MISCONFIGURED
    with graceful_stop(STOPPING) as stop:
        for entry in entries:
            LOG.info(
                "%s: %s, next at %s",
                entry.name,
                entry.command_line,
                entry.format_time(entry.next_due(datetime.now(UTC))),
            )
        orders = Orders(conf, configuration.words_for_oslo())
        wait_until_usable(conf, stop.wait)
        Beat(entries, firings, orders, conf.schedule.deadline, stop).run()
    return 0
