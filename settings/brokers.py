"""Where messages and runs are kept: the URLs of section ``[celery]``, in all their spellings.

A URL that cannot be used is refused without being repeated: it may hold a password.
"""

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from oslo_config import cfg, types

from settings.configuration import ValueProblem
from settings.errors import NotConfigured

REDIS_SCHEMES: Final = frozenset({"redis", "rediss"})
SENTINEL_SCHEME: Final = "sentinel"
AMQP_SCHEMES: Final = frozenset({"amqp", "amqps", "pyamqp"})
SENTINEL_PORT: Final = 26379
REDIS_PORT: Final = 6379
# Options in the URLs of OpenStack's tooz, whose spelling is accepted, that redis-py does not know.
TOOZ_OPTIONS: Final = frozenset(
    {"sentinel", "sentinel_fallback", "db", "socket_timeout", "retry_on_timeout", "timeout"}
)

FORMS: Final = (
    "redis://[:PASSWORD@]HOST:PORT/DB, rediss:// for TLS, "
    "sentinel://:PASSWORD@HOST:PORT/DB;sentinel://..., or "
    "redis://:PASSWORD@HOST:26379?sentinel=MASTER"
)


@dataclass(frozen=True)
class RedisAddress:
    """How to reach a Redis, directly or by way of Sentinels.

    :ivar sentinels: hosts and ports; empty: Redis is reached directly
    :ivar master: its name among the Sentinels
    :ivar ssl_options: of the URL, such as ``ssl_cert_reqs``, as redis-py spells them
    """

    host: str
    port: int = REDIS_PORT
    username: str = ""
    password: str = ""
    database: int = 0
    tls: bool = False
    ssl_options: tuple[tuple[str, str], ...] = ()
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""

    @property
    def url(self) -> str:
        """The URL for redis-py, without Sentinels. By default redis-py verifies certificates."""
        scheme = "rediss" if self.tls else "redis"
        authority = self._authority(self.host, self.port)
        query = urlencode(self.ssl_options)
        return urlunsplit((scheme, authority, f"/{self.database}", query, ""))

    @property
    def celery_url(self) -> str:
        """The URL for Celery's transport, which verifies certificates only when it is told to."""
        if self.sentinels:
            return ";".join(
                f"sentinel://{self._authority(host, port)}/{self.database}"
                for host, port in self.sentinels
            )
        if self.tls and "ssl_cert_reqs" not in dict(self.ssl_options):
            verified = (*self.ssl_options, ("ssl_cert_reqs", "required"))
            return replace(self, ssl_options=verified).url
        return self.url

    def _authority(self, host: str, port: int) -> str:
        """Login, host and port, as they stand in a URL."""
        login = ""
        if self.username or self.password:
            login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"
        bracketed_host = f"[{host}]" if ":" in host else host
        return f"{login}{bracketed_host}:{port}"


def redis_address(url: str, master: str) -> RedisAddress:
    """Parse the URL of a Redis.

    :param master: its name among the Sentinels, unless the URL says another one
    :raises ValueError: the URL is not that of a Redis; the message does not repeat it
    """
    is_sentinel = url.startswith(f"{SENTINEL_SCHEME}://")
    urls = [urlsplit(part) for part in (url.split(";") if is_sentinel else [url])]
    first = urls[0]
    query = parse_qsl(first.query)
    options = dict(query)
    database = options.get("db") or first.path.strip("/") or "0"
    if not _are_redis_urls(urls) or not database.isdecimal():
        raise ValueError("not a Redis")
    address = RedisAddress(
        host=first.hostname or "",
        port=first.port or REDIS_PORT,
        username=unquote(first.username or ""),
        password=unquote(first.password or ""),
        database=int(database),
        tls=first.scheme == "rediss",
        ssl_options=tuple(
            _spelled_for_redis(name, value) for name, value in query if name not in TOOZ_OPTIONS
        ),
    )
    if is_sentinel:
        return replace(address, sentinels=_hosts_and_ports(urls), master=master)
    if "sentinel" in options:
        fallbacks = [urlsplit(f"//{value}") for name, value in query if name == "sentinel_fallback"]
        sentinels = _hosts_and_ports([first, *fallbacks])
        return replace(address, sentinels=sentinels, master=options["sentinel"])
    return address


def _are_redis_urls(urls: list[SplitResult]) -> bool:
    """Whether all name a host, and are those of one Redis or of Sentinels.

    :raises ValueError: a port is not a number
    """
    schemes = {url.scheme for url in urls}
    if schemes != {SENTINEL_SCHEME} and not schemes <= REDIS_SCHEMES:
        return False
    return all(url.hostname and url.port != 0 for url in urls)


def _hosts_and_ports(sentinels: list[SplitResult]) -> tuple[tuple[str, int], ...]:
    return tuple((url.hostname or "", url.port or SENTINEL_PORT) for url in sentinels)


def _spelled_for_redis(name: str, value: str) -> tuple[str, str]:
    """An option of TLS as redis-py spells it; Celery writes ``CERT_REQUIRED`` for ``required``."""
    if name == "ssl_cert_reqs":
        return name, value.lower().removeprefix("cert_")
    return name, value


def is_redis(url: str) -> bool:
    """Whether a URL names a Redis."""
    try:
        redis_address(url, "")
    except ValueError:
        return False
    return True


def is_amqp(url: str) -> bool:
    """Whether a URL names RabbitMQ, or another broker that speaks AMQP."""
    try:
        urls = [urlsplit(part) for part in url.split(";")]
        return all(
            part.scheme in AMQP_SCHEMES and part.hostname and part.port != 0 for part in urls
        )
    except ValueError:
        return False


class RedisUrl(types.String):
    """The URL of a Redis."""

    def __call__(self, value: object) -> str:
        """:raises ValueProblem: the value is not such a URL"""
        url = str(super().__call__(value))
        if url and not is_redis(url):
            raise ValueProblem(
                f"it must be {FORMS}, and special characters of the password percent-encoded"
            )
        return url


class BrokerUrl(types.String):
    """The URL of a Redis or a RabbitMQ."""

    def __call__(self, value: object) -> str:
        """:raises ValueProblem: the value is not such a URL"""
        url = str(super().__call__(value))
        if url and not is_redis(url) and not is_amqp(url):
            raise ValueProblem(
                f"it must be {FORMS}; or amqp://USER:PASSWORD@HOST:PORT/VHOST for RabbitMQ; and "
                "special characters of the password percent-encoded"
            )
        return url


def store_address(conf: cfg.ConfigOpts) -> RedisAddress:
    """The Redis that keeps the runs.

    :raises NotConfigured: no Redis is configured
    """
    url = conf.celery.store_url or conf.celery.broker_url
    if not url or not is_redis(url):
        raise NotConfigured(
            "Where the runs are kept is not configured: with RabbitMQ as broker_url, set "
            "store_url in section [celery] to a Redis or Valkey"
        )
    return redis_address(url, conf.celery.sentinel_master)


def broker_address(conf: cfg.ConfigOpts) -> RedisAddress | None:
    """The Redis that carries the messages; None: RabbitMQ does."""
    url = conf.celery.broker_url
    return redis_address(url, conf.celery.sentinel_master) if is_redis(url) else None
