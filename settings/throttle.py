"""The section ``[throttle]``: what a database server may suffer before the work on it pauses."""

import math
from dataclasses import dataclass
from typing import Final

from oslo_config import cfg

from settings.errors import InvalidSetting
from settings.section import Section

SECTION: Final = Section(
    "throttle",
    [
        cfg.IntOpt(
            "max_threads_running", default=50, min=0,
            help="Pause once so many threads of a server are running a statement (Threads_running). 0: do not look.",
        ),
        cfg.IntOpt(
            "critical_threads_running", default=0, min=0,
            help="End the run once so many threads of a server are running a statement. 0: never.",
        ),
        cfg.FloatOpt(
            "max_flow_control", default=1.0, min=0.0, max=100.0,
            help="Pause once a Galera cluster spent so many percent of the time since the last look in flow control. "
                 "0: do not look.",
        ),
        cfg.IntOpt(
            "max_receive_queue", default=16, min=0,
            help="Pause once so many write sets wait on a Galera node to be applied (wsrep_local_recv_queue). 0: do "
                 "not look.",
        ),
        cfg.FloatOpt(
            "max_lag", default=0.0, min=0.0,
            help="Pause once a replica is so many seconds behind, or does not replicate. 0: do not look.",
        ),
        cfg.MultiStrOpt(
            "replica", default=[], secret=True,
            help="A replica of a cell's database whose lag counts, as in "
                 "replica = cell1 mysql+pymysql://USER:PASSWORD@HOST/nova_cell1. The cell is named by its name or "
                 "UUID. May be given several times. For a cell that has none here, the server is asked for its "
                 "replicas, which must then accept the user of the cell.",
        ),
        cfg.StrOpt(
            "lag_query",
            help="A query that returns the lag of a replica in seconds, asked on each replica; for a heartbeat table. "
                 "Without it the replica's own account counts (SHOW ALL SLAVES STATUS, SHOW REPLICA STATUS).",
        ),
        cfg.IntOpt(
            "max_history_list", default=0, min=0,
            help="Pause once InnoDB has so many old row versions to clean up (the history list length). 0: do not "
                 "look.",
        ),
        cfg.StrOpt(
            "query",
            help="A query that returns a number, asked once on each server: in the database of one of its cells.",
        ),
        cfg.FloatOpt(
            "max_query",
            help="Pause once query returns this number or more. To be given with query.",
        ),
        cfg.StrOpt(
            "http",
            help="An address that is asked by HEAD, as freno answers it: 200 is to go on, 429 and 417 are to pause. "
                 "{host} and {port} stand for those of the server, as in http://freno:8111/check/cellkeeper/mysql/{host}.",
        ),
    ],
    title="What a database server may suffer before the work on it pauses.",
)  # fmt: skip


@dataclass(frozen=True)
class ThrottleSettings:
    """The limits of ``[throttle]``; 0 or an empty text: the signal is not looked at.

    :ivar max_threads_running: threads
    :ivar critical_threads_running: threads
    :ivar max_flow_control: percent of the time
    :ivar max_receive_queue: write sets
    :ivar max_lag: seconds
    :ivar lag_query: returns seconds
    :ivar replicas: the name or UUID of a cell and the URL of a replica of its database; secret
    :ivar max_history_list: row versions
    :ivar query: returns a number
    :ivar max_query: that number
    :ivar http: a URL with ``{host}`` and ``{port}``
    """

    max_threads_running: int = 50
    critical_threads_running: int = 0
    max_flow_control: float = 1.0
    max_receive_queue: int = 16
    max_lag: float = 0.0
    lag_query: str = ""
    replicas: tuple[tuple[str, str], ...] = ()
    max_history_list: int = 0
    query: str = ""
    max_query: float = 0.0
    http: str = ""


def throttle_settings(conf: cfg.ConfigOpts) -> ThrottleSettings:
    """The limits as configured.

    :raises InvalidSetting: a replica is not given as CELL URL; the address is none of HTTP, or has another field than
        host and port
    """
    own = conf.throttle
    return ThrottleSettings(
        max_threads_running=own.max_threads_running,
        critical_threads_running=own.critical_threads_running,
        max_flow_control=own.max_flow_control,
        max_receive_queue=own.max_receive_queue,
        max_lag=own.max_lag,
        lag_query=own.lag_query or "",
        replicas=tuple(_cell_and_url(line) for line in own.replica),
        max_history_list=own.max_history_list,
        query=own.query or "",
        max_query=_query_limit(own.query, own.max_query),
        http=_http_template(own.http or ""),
    )


def _cell_and_url(line: str) -> tuple[str, str]:
    """A replica as it is written. The URL is secret, so an error does not repeat the line."""
    cell, separator, url = line.strip().partition(" ")
    if not separator:
        raise InvalidSetting(
            "replica in section [throttle]: it takes a cell and the URL of a replica, as in: "
            "cell1 mysql+pymysql://USER:PASSWORD@HOST/nova_cell1"
        )
    return cell, url.strip()


def _query_limit(query: str | None, limit: float | None) -> float:
    if query and (limit is None or math.isnan(limit)):
        raise InvalidSetting("max_query in section [throttle]: query takes a number here from which on the work pauses")
    return limit or 0.0


def _http_template(template: str) -> str:
    if template and not template.startswith(("http://", "https://")):
        raise InvalidSetting("http in section [throttle]: it takes an address that begins with http:// or https://")
    try:
        template.format(host="db1", port=3306)
    except (ValueError, LookupError, AttributeError):
        raise InvalidSetting(
            "http in section [throttle]: its address may have {host} and {port} in braces, and nothing else"
        ) from None
    return template
