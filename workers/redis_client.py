"""The Redis that knows the runs, as a client."""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from oslo_config import cfg
from redis import Redis, Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
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
from redis.sentinel import MasterNotFoundError

from runs.redis_store import RedisStore
from settings.brokers import RedisAddress, store_address
from settings.errors import NotConfigured

T = TypeVar("T")

PATIENCE: Final = 20.0
"""Seconds for which a Redis may be away, or refuse, before that is an error."""
ANSWER: Final = 5.0
"""Seconds for one answer."""
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
# What a Redis answers that cannot save, or lacks replicas; redis-py has no class of its own for these.
REFUSING: Final = ("MISCONF", "NOREPLICAS")


class PatientRetry(Retry):
    """Tries again for some time, however long each try takes: a Redis that hangs is no better than one that is away."""

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
        begun, failures = time.monotonic(), 0
        while True:
            try:
                return do()
            except (*PASSING, ResponseError) as error:
                if not _passes(error) or (is_retryable and not is_retryable(error)):
                    raise
                failures += 1
                fail(error, failures) if with_failure_count else fail(error)
                pause = self._backoff.compute(failures)
                if time.monotonic() - begun + pause > self._seconds:
                    raise
                time.sleep(pause)


def _passes(error: Exception) -> bool:
    """Whether it may go by itself."""
    return isinstance(error, PASSING) or str(error).startswith(REFUSING)


def run_store(conf: cfg.ConfigOpts, patience: float = PATIENCE) -> RedisStore:
    """The store of runs, as configured. Nothing is connected yet.

    :param patience: seconds for which a Redis may be away before that is an error
    """
    return RedisStore(store_client(conf, patience), conf.celery.expires, conf.celery.history_days)


def check_store(conf: cfg.ConfigOpts) -> None:
    """See at once whether the store can be used: what has not begun need not wait for it.

    :raises RedisError: it cannot
    :raises NotConfigured: it is a Redis Cluster
    """
    refuse_cluster(store_client(conf, 0))


def refuse_cluster(client: Redis) -> None:
    """
    :raises NotConfigured: it is a Redis Cluster: neither Celery nor what decides about a run works across its nodes
    :raises RedisError: it does not answer
    """
    told = client.info("cluster")
    if int(told.get("cluster_enabled", 0)):
        raise NotConfigured(
            "The Redis of section [celery] is a Redis Cluster, which Celery cannot use: name a Redis, or Sentinels"
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
        "socket_timeout": ANSWER,
        "socket_connect_timeout": ANSWER,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": PatientRetry(patience),
    }
    if address.sentinels:
        return _behind_sentinels(address, options)
    return Redis.from_url(address.url, **options)


class _Sentinels(Sentinel):
    """Sentinels that say in one line that they know no master."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            places = ", ".join("{host}:{port}".format(**client.get_connection_kwargs()) for client in self.sentinels)
            raise MasterNotFoundError(
                f"no Sentinel of {places} knows a master {service_name!r}, or none answers"
            ) from None


def _behind_sentinels(address: RedisAddress, options: dict[str, Any]) -> Redis:
    """The Redis that Sentinels know by a name. Login and database are its own, as for messages."""
    login = {"username": address.username or None, "password": address.password or None, "db": address.database}
    timeouts = {name: value for name, value in options.items() if name.startswith("socket_")}
    sentinel = _Sentinels(address.sentinels, **timeouts)  # type: ignore[no-untyped-call]
    return cast(Redis, sentinel.master_for(address.master, **options, **login))  # type: ignore[no-untyped-call]
