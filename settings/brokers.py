"""Where messages and runs lie: the URLs of the section ``[celery]``, in all spellings that operators have.

A URL that cannot be used is refused without being repeated: it may hold a password.
"""

from collections.abc import Iterator
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
# What a driver of OpenStack's tooz is told in the URL, and a client of Redis is not.
TOOZ_WORDS: Final = frozenset({"sentinel", "sentinel_fallback", "db", "socket_timeout", "retry_on_timeout", "timeout"})

FORMS: Final = (
    "redis://[:PASSWORD@]HOST:PORT/DB, rediss:// for TLS, sentinel://:PASSWORD@HOST:PORT/DB;sentinel://..., or "
    "redis://:PASSWORD@HOST:26379?sentinel=MASTER"
)


@dataclass(frozen=True)
class RedisAddress:
    """A Redis, or one that Sentinels know.

    :ivar sentinels: hosts and ports; none: it is asked directly
    :ivar master: the name that the Sentinels know
    :ivar ssl_options: of its URL, such as ``ssl_cert_reqs``, as redis-py spells them
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
        """As redis-py reads it, where no Sentinel is in between; a certificate is checked unless it says otherwise."""
        scheme = "rediss" if self.tls else "redis"
        query = urlencode(self.ssl_options)
        return urlunsplit((scheme, self._at(self.host, self.port), f"/{self.database}", query, ""))

    @property
    def celery_url(self) -> str:
        """As Celery's transport reads it."""
        if self.sentinels:
            places = (f"sentinel://{self._at(host, port)}/{self.database}" for host, port in self.sentinels)
            return ";".join(places)
        if self.tls and "ssl_cert_reqs" not in dict(self.ssl_options):
            return replace(self, ssl_options=(*self.ssl_options, ("ssl_cert_reqs", "required"))).url
        return self.url

    def _at(self, host: str, port: int) -> str:
        """Login, host and port."""
        login = ""
        if self.username or self.password:
            login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"
        return f"{login}[{host}]:{port}" if ":" in host else f"{login}{host}:{port}"


def redis_address(url: str, master: str) -> RedisAddress:
    """Read the URL of a Redis.

    :param master: the name that Sentinels know, unless the URL says another one
    :raises ValueError: it is none; the message does not repeat it
    """
    parts = [urlsplit(part) for part in url.split(";")] if url.startswith(f"{SENTINEL_SCHEME}://") else [urlsplit(url)]
    first, query = parts[0], parse_qsl(parts[0].query)
    words = dict(query)
    schemes = {part.scheme for part in parts}
    is_named = all(part.hostname and part.port != 0 for part in parts)
    database = words.get("db") or first.path.strip("/") or "0"
    if not is_named or not database.isdecimal() or (schemes != {SENTINEL_SCHEME} and not schemes <= REDIS_SCHEMES):
        raise ValueError("no Redis")
    address = RedisAddress(
        host=first.hostname or "",
        port=first.port or REDIS_PORT,
        username=unquote(first.username or ""),
        password=unquote(first.password or ""),
        database=int(database),
        tls=first.scheme == "rediss",
        ssl_options=tuple(_spelt_for_redis(name, value) for name, value in query if name not in TOOZ_WORDS),
    )
    if schemes == {SENTINEL_SCHEME}:
        return replace(address, sentinels=tuple(_sentinels(parts)), master=master)
    if "sentinel" in words:
        others = [urlsplit(f"//{value}") for name, value in query if name == "sentinel_fallback"]
        return replace(address, sentinels=tuple(_sentinels([first, *others])), master=words["sentinel"])
    return address


def _sentinels(parts: list[SplitResult]) -> Iterator[tuple[str, int]]:
    for part in parts:
        yield part.hostname or "", part.port or SENTINEL_PORT


def _spelt_for_redis(name: str, value: str) -> tuple[str, str]:
    """Celery and Python call it ``CERT_REQUIRED``, redis-py ``required``."""
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
        parts = [urlsplit(part) for part in url.split(";")]
        return all(part.scheme in AMQP_SCHEMES and part.hostname and part.port != 0 for part in parts)
    except ValueError:
        return False


class RedisUrl(types.String):
    """The URL of a Redis."""

    def __call__(self, value: object) -> str:
        """
        :raises ValueProblem: it is none
        """
        url = str(super().__call__(value))
        if url and not is_redis(url):
            raise ValueProblem(f"it must be {FORMS}, and special characters of the password percent-encoded")
        return url


class BrokerUrl(types.String):
    """The URL of a Redis or a RabbitMQ."""

    def __call__(self, value: object) -> str:
        """
        :raises ValueProblem: it is none
        """
        url = str(super().__call__(value))
        if url and not is_redis(url) and not is_amqp(url):
            raise ValueProblem(
                f"it must be {FORMS}; or amqp://USER:PASSWORD@HOST:PORT/VHOST for RabbitMQ; and special characters of "
                "the password percent-encoded"
            )
        return url


def store_address(conf: cfg.ConfigOpts) -> RedisAddress:
    """The Redis that knows the runs.

    :raises NotConfigured: there is none
    """
    url = conf.celery.store_url or conf.celery.broker_url
    if not url or not is_redis(url):
        raise NotConfigured(
            "Where the runs are kept is not configured: with RabbitMQ as broker_url, set store_url in section "
            "[celery] to a Redis or Valkey"
        )
    return redis_address(url, conf.celery.sentinel_master)


def broker_address(conf: cfg.ConfigOpts) -> RedisAddress | None:
    """The Redis that carries the messages; None: a RabbitMQ does."""
    url = conf.celery.broker_url
    return redis_address(url, conf.celery.sentinel_master) if is_redis(url) else None
