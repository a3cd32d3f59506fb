"""What ``check`` says of the throttle: which signals guard which servers, and what keeps others
from it.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from oslo_config import cfg

from cli.output import first_names
from clients.concurrency import map_bounded
from jobs.check import Finding, Verdict
from novadb.cells import Cell
from settings.errors import InvalidSetting
from settings.throttle import ThrottleSettings
from throttle.in_force import in_words, signals_in_force
from throttle.readings import Answer, Reading, ServerState
from throttle.server_watch import ServerWatch
from throttle.servers import NO_SUCH_CELL, Server, cells_unknown, servers_of, usable_throttle

SUBJECT: Final = "throttle"
CONFIGURATION: Final = "configuration"
ALL_SERVERS: Final = "all servers"

Found = tuple[str, Finding]
"""Where something was found, and what."""


def look_at_throttle(conf: cfg.ConfigOpts, cells: Sequence[Cell]) -> list[Found]:
    """Look at each server of the cells once, over one connection at a time.

    :returns: for all servers that are alike one finding of the signals in force; a finding for each
        signal that is unknown, or pauses the work
    """
    try:
        settings = usable_throttle(conf)
    except InvalidSetting as problem:
        return [(CONFIGURATION, Finding(SUBJECT, Verdict.FAILED, str(problem)))]
    found = [
        (CONFIGURATION, Finding(SUBJECT, Verdict.FAILED, NO_SUCH_CELL.format(name)))
        for name in cells_unknown(cells, settings)
        if cells
    ]
    servers = servers_of(cells, settings)
    states = map_bounded(partial(_look, settings), servers, conf.cellkeeper.concurrency)
    # What does not answer is a finding of its cells.
    seen = [
        (server.name, state)
        for server, state in zip(servers, states, strict=True)
        if not state.is_silent
    ]
    return found + list(_in_force(seen)) + list(_troubles(seen))


def _look(settings: ThrottleSettings, server: Server) -> ServerState:
    with ServerWatch(server.database, settings, server.replicas) as watch:
        return watch.look(None)


def _in_force(seen: Sequence[tuple[str, ServerState]]) -> Iterator[Found]:
    """The signals in force; servers that have the same are told together."""
    servers_with: dict[tuple[str, ...], list[str]] = {}
    for server, state in seen:
        servers_with.setdefault(signals_in_force(state.readings), []).append(server)
    for signals, servers in servers_with.items():
        where = ALL_SERVERS if len(servers_with) == 1 else first_names(servers)
        yield where, Finding(SUBJECT, Verdict.OK, in_words(signals))


def _troubles(seen: Sequence[tuple[str, ServerState]]) -> Iterator[Found]:
    for server, state in seen:
        for reading in state.readings:
            if reading.answer is not Answer.GO:
                yield server, Finding(SUBJECT, Verdict.WARNING, _trouble(reading))


def _trouble(reading: Reading) -> str:
    place = f" of {reading.source}" if reading.source else ""
    if reading.answer is Answer.UNKNOWN:
        return f"{reading.signal}{place} is unknown: {reading.words}"
    return f"the work pauses, by {reading.signal}{place}: {reading.words}"
