"""The Redis that knows the runs, as a client."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from oslo_config import cfg
from redis import Redis, Sentinel
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, SentinelManagedConnection

from runs.redis_store import RedisStore
from settings.brokers import RedisAddress, store_address
from settings.errors import NotConfigured
from workers.redis_needs import OF_STORE, RULE, Needs, lacking_rights, refusal

T = TypeVar("T")

PATIENCE: Final = 20.0
"""Seconds for which a Redis may be away, or refuse, before that is an error."""
ANSWER: Final = 5.0
"""Seconds for one answer."""
SENTINEL_ANSWER: Final = 2.0
"""Seconds for the answer of a Sentinel: the next one is asked then."""
PASSING: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
# What a Redis answers that cannot save, or lacks replicas; redis-py has no class of its own for
# these.
REFUSING: Final = ("MISCONF", "NOREPLICAS")
IS_CLUSTER: Final = (
    "The Redis of section [celery] is a Redis Cluster, which Celery cannot use: "
    "name a Redis, or Sentinels"
)
SCRIPT: Final = re.compile(r"\.? script: [0-9a-f]{40}, on @\w+:\d+\.?$")
"""How a Redis ends the error of a command within a script: with the place in it, which says nothing
to an operator.
"""
NO_OTHER_DATABASE: Final = "not allowed in cluster mode"
"""How a Redis Cluster ends its answer to a login that names another database than the first."""


class _Patience(threading.local):
    """Until when the call that is under way in a thread is tried again, by ``time.monotonic``;
    None: there is none.
    """

    until: float | None = None


_PATIENCE: Final = _Patience()


@contextmanager
def _patience(seconds: float) -> Iterator[float]:
    """Until when to try. redis-py tries a command, and in each try the connection: both share one
    limit.
    """
    if _PATIENCE.until is not None:
        yield _PATIENCE.until
        return
    _PATIENCE.until = time.monotonic() + seconds
    try:
        yield _PATIENCE.until
    finally:
        _PATIENCE.until = None


class PatientRetry(Retry):
    """Tries again for some time, however long each try takes: a Redis that hangs is no better than
    one that is away.
    """

    def __init__(self, seconds: float) -> None:
        """:param seconds: 0: once"""
        super().__init__(ExponentialBackoff(cap=4, base=0.1), -1, PASSING)
        self._seconds = seconds

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """Do something until it works, fails for good, or the time is over.

        :raises RedisError: it failed
        """
        with _patience(self._seconds) as until:
            failures = 0
            while True:
                try:
                    return do()
                except (*PASSING, ResponseError) as error:
                    error.args = tuple(SCRIPT.sub("", word) for word in error.args)
                    if not passes(error) or (is_retryable and not is_retryable(error)):
                        raise
                    failures += 1
                    fail(error, failures) if with_failure_count else fail(error)
                    pause = self._backoff.compute(failures)
                    if time.monotonic() + pause > until:
                        raise
                    time.sleep(pause)


def passes(error: Exception) -> bool:
    """Whether it may go by itself: a login that is refused does not."""
    if isinstance(error, AuthenticationError):
        return False
    return isinstance(error, PASSING) or str(error).startswith(REFUSING)


def run_store(conf: cfg.ConfigOpts, patience: float = PATIENCE) -> RedisStore:
    """The store of runs, as configured. Nothing is connected yet.

    :param patience: seconds for which a Redis may be away before that is an error
    """
    return RedisStore(store_client(conf, patience), conf.celery.expires, conf.celery.history_days)


def check_store(conf: cfg.ConfigOpts, *, writing: bool = False) -> None:
    """See at once whether the store can be used: what has not begun need not wait for it.

    :param writing: whether it must take writes
    :raises RedisError: it cannot
    :raises NotConfigured: it never can: it is a Redis Cluster, or allows its user too little
    """
    client = store_client(conf, 0)
    check_redis(client, OF_STORE)
    if writing and (error := refusal(client)):
        raise error


def check_redis(client: Redis, needs: Needs) -> None:
    """See whether a Redis serves, and allows its user what is needed.

    :raises NotConfigured: it is a Redis Cluster: neither Celery nor what decides about a run works
        across its nodes; or it allows too little
    :raises RedisError: it does not answer
    """
    try:
        lacking = lacking_rights(client, needs)
    except AuthenticationError as error:
        raise AuthenticationError(f"{_place(client)} refuses the login: {error}") from None
    except ResponseError as error:
        if str(error).endswith(NO_OTHER_DATABASE):
            raise NotConfigured(IS_CLUSTER) from None
        raise
    if lacking:
        user = client.get_connection_kwargs().get("username") or "default"
        raise NotConfigured(
            f"The Redis of section [celery] allows the user {user} too little: ACL SETUSER {user} "
            f"{' '.join(lacking)}; "
            f"all that is needed: {RULE}"
        )
    if int(client.info("cluster").get("cluster_enabled", 0)):
        raise NotConfigured(IS_CLUSTER)


def _place(client: Redis) -> str:
    """Where a Redis is; behind Sentinels that is theirs to say."""
    options = client.get_connection_kwargs()
    return (
        f"the Redis at {options['host']}:{options['port']}"
        if "host" in options
        else "the Redis of section [celery]"
    )


def store_client(conf: cfg.ConfigOpts, patience: float = PATIENCE) -> Redis:
    """The Redis that knows the runs. Nothing is connected yet.

    :param patience: seconds for which it may be away before that is an error
    :raises NotConfigured: there is none
    """
    return redis_client(store_address(conf), patience)


def redis_client(address: RedisAddress, patience: float) -> Redis:
    """A client of a Redis. Nothing is connected yet.

    :param patience: seconds for which it may be away before that is an error
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        # What is no UTF-8 is garbage, and found to be so by its reader.
        "encoding_errors": "backslashreplace",
        "socket_timeout": ANSWER,
        "socket_connect_timeout": ANSWER,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": PatientRetry(patience),
    }
    if address.sentinels:
        return _behind_sentinels(address, options)
    return Redis.from_url(address.url, **options)


# Left to itself, redis-py asks each Sentinel that hangs four times before it asks the next one.
SENTINEL_OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": SENTINEL_ANSWER,
    "socket_connect_timeout": SENTINEL_ANSWER,
    "socket_keepalive": True,
    "retry": Retry(NoBackoff(), 0),
}


class _Sentinels(Sentinel):
    """Sentinels that say in one line that they know no master."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            places = ", ".join(
                "{host}:{port}".format(**client.get_connection_kwargs())
                for client in self.sentinels
            )
            raise MasterNotFoundError(
                f"no Sentinel of {places} knows a master {service_name!r}, or none answers"
            ) from None


class _ConnectionToMaster(SentinelManagedConnection):
    """A connection that asks the Sentinels whenever it connects.

    Within the tries of one command redis-py 8.1 connects again to where the master was: one that
    hangs was tried until the patience was over, however soon another one had taken its place.
    """

    def connect(self) -> None:
        super(SentinelManagedConnection, self).connect()  # type: ignore[no-untyped-call]

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect to the master of this moment; one that cannot be reached is not tried again, but
        asked for.
        """
        if not self._sock:
            self.host, self.port = self.connection_pool.get_master_address()
        super().connect_check_health(check_health, retry_socket_connect=False)


def _behind_sentinels(address: RedisAddress, options: dict[str, Any]) -> Redis:
    """The Redis that Sentinels know by a name. Login and database are its own, as for messages."""
    login = {
        "username": address.username or None,
        "password": address.password or None,
        "db": address.database,
    }
    sentinel = _Sentinels(address.sentinels, sentinel_kwargs=SENTINEL_OPTIONS)  # type: ignore[no-untyped-call]
    options = options | login | {"connection_class": _ConnectionToMaster}
    return cast(Redis, sentinel.master_for(address.master, **options))  # type: ignore[no-untyped-call]
