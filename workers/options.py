"""The sections ``[celery]`` and ``[flower]`` of the configuration."""

from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from oslo_config import cfg, types
from redis import Redis, Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from runs.redis_store import RedisStore

SENTINEL_SCHEME: Final = "sentinel://"
SCHEMES: Final = frozenset({"redis", "rediss", "sentinel"})


class RedisUrl(types.String):
    """A URL that Redis clients take. One that is none is refused without being repeated: it may hold a password."""

    def __call__(self, value: object) -> str:
        """
        :raises ValueError: it is none
        """
        url = str(super().__call__(value))
        if url and not _is_redis(url):
            raise ValueError(
                "it must be redis://[:PASSWORD@]HOST:PORT/DB, rediss:// or sentinel:// with the same behind it, and "
                "special characters of the password percent-encoded"
            )
        return url


def _is_redis(url: str) -> bool:
    parts = [urlsplit(part) for part in url.split(";")] if url.startswith(SENTINEL_SCHEME) else [urlsplit(url)]
    try:
        named = all(part.hostname and part.port != 0 for part in parts)
    except ValueError:  # a port that is no number
        return False
    schemes = {part.scheme for part in parts}
    database = parts[0].path.strip("/")
    return named and schemes <= SCHEMES and (not database or database.isdecimal())


GROUP: Final = cfg.OptGroup("celery", "Where runs go that are worked by workers.")

OPTIONS: Final = [
    cfg.Opt(
        "broker_url", type=RedisUrl(), secret=True,
        help="The Redis that carries messages to workers: redis://[:PASSWORD@]HOST:PORT/DB, rediss:// for TLS, or "
             "sentinel://:PASSWORD@HOST:PORT/DB;sentinel://..., each with the password of the Redis. Without it every "
             "command works in its own process.",
    ),
    cfg.Opt(
        "store_url", type=RedisUrl(), secret=True,
        help="The Redis that knows the runs. Defaults to that of broker_url.",
    ),
    cfg.StrOpt("sentinel_master", default="mymaster", help="The name of the master behind sentinel:// URLs."),
    cfg.IntOpt("expires", default=604_800, min=3600, help="Seconds for which runs are kept in the store."),
    cfg.FloatOpt(
        "slice_seconds", default=20.0, min=0.0,
        help="Seconds after which a slice gives way to others; 0: after every step.",
    ),
    cfg.FloatOpt(
        "lease_seconds", default=30.0, min=1.0,
        help="Seconds without a sign of life after which another worker takes a cell over.",
    ),
]  # fmt: skip

FLOWER_GROUP: Final = cfg.OptGroup("flower", "The web page that shows workers and tasks: cellkeeper flower.")

FLOWER_OPTIONS: Final = [
    cfg.StrOpt("user", default="cellkeeper", help="The name to log in with."),
    cfg.StrOpt("password", secret=True, help="The password to log in with. Without one, Flower does not start."),
    cfg.StrOpt(
        "address", default="127.0.0.1",
        help="Where to listen. The password travels in the open without TLS: beyond this host, give cert_file and "
             "key_file, or put a proxy with TLS in front.",
    ),
    cfg.PortOpt("port", default=5555, help="The port to listen on."),
    cfg.StrOpt("url_prefix", default="", help="The path under which a proxy publishes it, as in /flower."),
    cfg.StrOpt("cert_file", help="The certificate to serve TLS with, in PEM."),
    cfg.StrOpt("key_file", help="The private key of cert_file."),
    cfg.BoolOpt(
        "read_only", default=True,
        help="Whether Flower only shows. Otherwise whoever logs in can also send tasks and stop workers.",
    ),
]  # fmt: skip

SENTINEL_PORT: Final = 26379
PATIENCE: Final = 10  # tries, over some 20 seconds, before a store that is away is an error


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)


def register_flower(conf: cfg.ConfigOpts) -> None:
    """Make the options of Flower known, and those of the workers that it shows."""
    register(conf)
    conf.register_group(FLOWER_GROUP)
    conf.register_opts(FLOWER_OPTIONS, group=FLOWER_GROUP)


def store(conf: cfg.ConfigOpts, tries: int = PATIENCE) -> RedisStore:
    """The store of runs, as configured. Nothing is connected yet.

    :param tries: to do a command again before it is an error
    """
    return RedisStore(client(conf, tries), conf.celery.expires)


def check(conf: cfg.ConfigOpts) -> None:
    """See at once whether the store can be used: what has not begun need not wait for it.

    :raises RedisError: it cannot
    """
    client(conf, 0).ping()


def client(conf: cfg.ConfigOpts, tries: int, url: str | None = None) -> Redis:
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
