"""``throttle status``: look at every server, print what was seen."""

import time
from collections.abc import Iterable
from enum import IntEnum
from functools import partial
from typing import Any, Final

from cli import configuration
from cli.output import first_names, put, put_json, say, table
from cli.run_options import Format
from clients.concurrency import map_bounded
from runs.targets import api_database, mapped_cells
from settings.throttle import ThrottleSettings
from throttle.readings import Reading, ServerState
from throttle.server_watch import ServerWatch
from throttle.servers import NO_SUCH_CELL, Server, cells_unknown, servers_of, usable_throttle

BETWEEN_LOOKS: Final = 1.0
"""Seconds between two looks at a server that has counters: what they say is their growth."""
HEADER: Final = ("Server", "Cells", "Signal", "Answer", "Limit", "Detail")


class Exit(IntEnum):
    """The return codes."""

    GO = 0
    PAUSED = 1
    ERROR = 255


def show_status(form: Format) -> int:
    """Look and print.

    :returns: whether a signal pauses the work
    :raises DatabaseProblem: the API database cannot be read
    :raises InvalidSetting: the section ``[throttle]`` cannot be used
    """
    conf = configuration.load()
    settings = usable_throttle(conf)
    cells = mapped_cells(conf, api_database(conf))
    for name in cells_unknown(cells, settings):
        say(NO_SUCH_CELL.format(name))
    servers = servers_of(cells, settings)
    if not servers:
        say("No cell has its database on a server: there is nothing to look at")
    states = map_bounded(partial(_look, settings), servers, conf.cellkeeper.concurrency)
    if form == "json":
        put_json([_as_data(server, state) for server, state in zip(servers, states, strict=True)])
    else:
        rows = [
            row
            for server, state in zip(servers, states, strict=True)
            for row in _rows(server, state)
        ]
        put(table(HEADER, rows))
    return Exit.PAUSED if any(state.verdict for state in states) else Exit.GO


def _look(settings: ThrottleSettings, server: Server) -> ServerState:
    with ServerWatch(server.database, settings, server.replicas) as watch:
        state = watch.look(None)
        if state.counters:
            time.sleep(BETWEEN_LOOKS)
            state = watch.look(state)
    return state


def _rows(server: Server, state: ServerState) -> Iterable[tuple[str, ...]]:
    for reading in state.readings:
        limit = "" if reading.limit is None else f"{reading.limit:g}"
        yield (
            server.name,
            first_names(server.cells),
            reading.signal,
            reading.answer,
            limit,
            _detail(reading),
        )


def _detail(reading: Reading) -> str:
    return f"{reading.source}: {reading.words}" if reading.source else reading.words


def _as_data(server: Server, state: ServerState) -> dict[str, Any]:
    return {
        "server": server.name,
        "cells": server.cells,
        "paused": state.verdict is not None,
        "signals": [
            {
                "signal": reading.signal,
                "answer": reading.answer,
                "source": reading.source or None,
                "value": reading.value,
                "limit": reading.limit,
                "detail": reading.words,
            }
            for reading in state.readings
        ],
    }
