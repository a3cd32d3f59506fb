"""The signal of replica lag: seconds that a replica is behind."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, RowMapping, text
from sqlalchemy.exc import DBAPIError

from novadb.engine import Database, is_mariadb
from novadb.errors import DatabaseProblem
from settings.throttle import ThrottleSettings
from throttle.look import Look, compare, unknown
from throttle.query import NoNumber, number_from
from throttle.readings import Answer, Reading

NAME: Final = "replica_lag"
MARIADB: Final = text("SHOW ALL SLAVES STATUS")
MYSQL: Final = text("SHOW REPLICA STATUS")
MARIADB_GRANT: Final = "SLAVE MONITOR"
MYSQL_GRANT: Final = "REPLICATION CLIENT"
MARIADB_GRANT_TO_FIND: Final = "REPLICATION MASTER ADMIN"
MYSQL_GRANT_TO_FIND: Final = "REPLICATION SLAVE"
BEHIND: Final = ("Seconds_Behind_Master", "Seconds_Behind_Source")
"""The column that has the lag: by MariaDB, by MySQL since 8.0.22."""


def is_on(settings: ThrottleSettings) -> bool:
    """Whether it has a limit."""
    return bool(settings.max_lag)


def read(look: Look) -> Iterator[Reading]:
    """The lag of each replica."""
    for replica in look.replicas:
        source = replica.server
        try:
            yield _read_replica(look, look.connect_to(replica), source)
        except DatabaseProblem as problem:
            yield Reading(NAME, Answer.UNKNOWN, str(problem), source)
        except DBAPIError as error:
            yield unknown(NAME, error, _grant_to_read(look), source)
        except NoNumber:
            words = (
                "the query for its lag returns no number: option lag_query of section [throttle]"
            )
            yield Reading(NAME, Answer.UNKNOWN, words, source)


def _grant_to_read(look: Look) -> str:
    """The privilege for the lag of a replica; none where a query of the operator's returns it."""
    if look.settings.lag_query:
        return ""
    return MARIADB_GRANT if is_mariadb(look.connection) else MYSQL_GRANT


def _read_replica(look: Look, replica: Connection, source: str) -> Reading:
    limit = look.settings.max_lag
    if look.settings.lag_query:
        lag = number_from(replica, look.settings.lag_query)
        return compare(NAME, lag, limit, f"{lag:.1f} s behind", source)
    channels = replica.execute(MARIADB if is_mariadb(replica) else MYSQL).mappings().all()
    if not channels:
        return Reading(NAME, Answer.UNKNOWN, "it is no replica", source, limit=limit)
    lags = [_lag(channel) for channel in channels]
    known_lags = [lag for lag in lags if lag is not None]
    if len(known_lags) < len(lags):
        return Reading(NAME, Answer.STOP, "it does not replicate", source, limit=limit)
    worst = max(known_lags)
    return compare(NAME, worst, limit, f"{worst} s behind", source)


def _lag(channel: RowMapping) -> int | None:
    """Seconds behind; None: its threads do not run."""
    for column in BEHIND:
        if column in channel:
            seconds = channel[column]
            return None if seconds is None else int(seconds)
    return None


def grant_to_find_replicas(primary: Connection) -> str:
    """The privilege to ask a primary for its replicas."""
    return MARIADB_GRANT_TO_FIND if is_mariadb(primary) else MYSQL_GRANT_TO_FIND


def find_replicas(primary: Connection, database: Database) -> list[Database]:
    """Ask a primary for its replicas, as far as they report where they are (``report_host``).

    :param database: on the primary; the replicas are given its user, password and options
    :raises DBAPIError: the user may not ask
    """
    rows = primary.execute(
        text("SHOW SLAVE HOSTS" if is_mariadb(primary) else "SHOW REPLICAS")
    ).mappings()
    return [
        database.at_host(
            row["Host"], int(row["Port"]), f"the replica at {row['Host']}:{row['Port']}"
        )
        for row in rows
        if row["Host"]
    ]
