"""The Redis that knows the runs, as a client."""

from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from oslo_config import cfg
from redis import Redis, Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from runs.redis_store import RedisStore
from settings.celery import SENTINEL_SCHEME

SENTINEL_PORT: Final = 26379
PATIENCE: Final = 10  # tries, over some 20 seconds, before a store that is away is an error


def run_store(conf: cfg.ConfigOpts, tries: int = PATIENCE) -> RedisStore:
    """The store of runs, as configured. Nothing is connected yet.

    :param tries: to do a command again before it is an error
    """
    return RedisStore(redis_client(conf, tries), conf.celery.expires, conf.celery.history_days)


def check_store(conf: cfg.ConfigOpts) -> None:
    """See at once whether the store can be used: what has not begun need not wait for it.

    :raises RedisError: it cannot
    """
    redis_client(conf, 0).ping()


def redis_client(conf: cfg.ConfigOpts, tries: int, url: str | None = None) -> Redis:
    """The Redis that knows the runs, or another one. Nothing is connected yet.

    :param tries: to do a command again before it is an error
    """
    url = str(url or conf.celery.store_url or conf.celery.broker_url)
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(ExponentialBackoff(cap=4, base=0.1), tries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    }
    if url.startswith(SENTINEL_SCHEME):
        return _behind_sentinels(conf.celery.sentinel_master, url, options)
    return Redis.from_url(url, **options)


class _Sentinels(Sentinel):
    """Sentinels that say in one line that they know no master."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            places = ", ".join("{host}:{port}".format(**one.get_connection_kwargs()) for one in self.sentinels)
            raise MasterNotFoundError(
                f"no Sentinel of {places} knows a master {service_name!r}, or none answers"
            ) from None


def _behind_sentinels(master: str, url: str, options: dict[str, Any]) -> Redis:
    """The Redis that Sentinels know by a name. Login and database in the URL are its own, as for messages."""
    parts = [urlsplit(part) for part in url.split(";")]
    addresses = [(part.hostname, part.port or SENTINEL_PORT) for part in parts]
    login = {
        "username": unquote(parts[0].username or "") or None,
        "password": unquote(parts[0].password or "") or None,
        "db": int(parts[0].path.strip("/") or 0),
    }
    timeouts = {name: value for name, value in options.items() if name.startswith("socket_")}
    sentinel = _Sentinels(addresses, **timeouts)  # type: ignore[no-untyped-call]
    return cast(Redis, sentinel.master_for(master, **options, **login))  # type: ignore[no-untyped-call]
