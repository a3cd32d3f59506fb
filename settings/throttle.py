"""Section ``[throttle]``: how much load a database server may have before the work on it pauses."""

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
            help="Pause when this many threads of a server are running statements "
                 "(Threads_running). 0: off.",
        ),
        cfg.IntOpt(
            "critical_threads_running", default=0, min=0,
            help="End the run when this many threads of a server are running statements. 0: never.",
        ),
        cfg.FloatOpt(
            "max_flow_control", default=1.0, min=0.0, max=100.0,
            help="Pause when a Galera cluster has spent this percentage of the time since the "
                 "last look in flow control. 0: off.",
        ),
        cfg.IntOpt(
            "max_receive_queue", default=16, min=0,
            help="Pause when this many write sets are waiting to be applied on a Galera node "
                 "(wsrep_local_recv_queue). 0: off.",
        ),
        cfg.FloatOpt(
            "max_lag", default=0.0, min=0.0,
            help="Pause when a replica is this many seconds behind, or does not replicate. 0: off.",
        ),
        cfg.MultiStrOpt(
            "replica", default=[], secret=True,
            help="A replica of a cell's database whose lag counts, as in replica = cell1 "
                 "mysql+pymysql://USER:PASSWORD@HOST/nova_cell1. The cell is given by its name or "
                 "UUID. May be repeated. For a cell without one here, the server is asked for its "
                 "replicas, which must then accept the user of the cell.",
        ),
        cfg.StrOpt(
            "lag_query",
            help="A query for the lag of a replica in seconds, sent to each replica; for "
                 "heartbeat tables. Without it, the replica's own figure counts (SHOW ALL SLAVES "
                 "STATUS, SHOW REPLICA STATUS).",
        ),
        cfg.IntOpt(
            "max_history_list", default=0, min=0,
            help="Pause when InnoDB has this many old row versions to clean up (the history list "
                 "length). 0: off.",
        ),
        cfg.StrOpt(
            "query",
            help="A query that returns a number, sent once to each server, in the database of one "
                 "of its cells.",
        ),
        cfg.FloatOpt(
            "max_query",
            help="Pause when query returns this number or more. Required with query.",
        ),
        cfg.StrOpt(
            "http",
            help="A URL that is asked by HEAD, and answers like freno: 200 to go on, 429 or 417 "
                 "to pause. {host} and {port} stand for those of the server, as in "
                 "http://freno:8111/check/cellkeeper/mysql/{host}.",
        ),
    ],
    title="How much load a database server may have before the work on it pauses.",
)  # fmt: skip


@dataclass(frozen=True)
class ThrottleSettings:
    """The limits of ``[throttle]``; 0 or an empty text: the signal is off.

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

    :raises InvalidSetting: a replica is not given as CELL URL; the URL is not one of HTTP, or has
        another field than host and port
    """
    options = conf.throttle
    return ThrottleSettings(
        max_threads_running=options.max_threads_running,
        critical_threads_running=options.critical_threads_running,
        max_flow_control=options.max_flow_control,
        max_receive_queue=options.max_receive_queue,
        max_lag=options.max_lag,
        lag_query=options.lag_query or "",
        replicas=tuple(_parse_replica(line) for line in options.replica),
        max_history_list=options.max_history_list,
        query=options.query or "",
        max_query=_check_query_limit(options.query, options.max_query),
        http=_check_http_template(options.http or ""),
    )


def _parse_replica(line: str) -> tuple[str, str]:
    """The cell and the URL of a replica. The URL is secret, so errors do not repeat the line."""
    cell, separator, url = line.strip().partition(" ")
    if not separator:
        raise InvalidSetting(
            "replica in section [throttle]: it takes a cell and the URL of a replica, as in: "
            "cell1 mysql+pymysql://USER:PASSWORD@HOST/nova_cell1"
        )
    return cell, url.strip()


def _check_query_limit(query: str | None, limit: float | None) -> float:
    if query and (limit is None or math.isnan(limit)):
        raise InvalidSetting(
            "max_query in section [throttle]: query takes a number here from which on the work "
            "pauses"
        )
    return limit or 0.0


def _check_http_template(template: str) -> str:
    if template and not template.startswith(("http://", "https://")):
        raise InvalidSetting(
            "http in section [throttle]: it takes an address that begins with http:// or https://"
        )
    try:
        template.format(host="db1", port=3306)
    except (ValueError, LookupError, AttributeError):
        raise InvalidSetting(
            "http in section [throttle]: its address may have {host} and {port} in braces, and "
            "nothing else"
        ) from None
    return template
