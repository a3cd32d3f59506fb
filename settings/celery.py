"""The section ``[celery]``: the Redis that carries messages, and the one that knows the runs."""

from typing import Final
from urllib.parse import urlsplit

from oslo_config import cfg, types

from settings.section import Section

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
    try:
        parts = [urlsplit(part) for part in url.split(";")] if url.startswith(SENTINEL_SCHEME) else [urlsplit(url)]
        named = all(part.hostname and part.port != 0 for part in parts)
    except ValueError:  # a port that is no number, brackets that do not match
        return False
    schemes = {part.scheme for part in parts}
    database = parts[0].path.strip("/")
    return named and schemes <= SCHEMES and (not database or database.isdecimal())


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
    cfg.IntOpt("history_days", default=400, min=1, help="Days for which a summary of each run that has ended is kept."),
    cfg.FloatOpt(
        "slice_seconds", default=20.0, min=0.0,
        help="Seconds after which a slice gives way to others; 0: after every step.",
    ),
    cfg.FloatOpt(
        "lease_seconds", default=30.0, min=1.0,
        help="Seconds without a sign of life after which another worker takes a cell over.",
    ),
]  # fmt: skip

SECTION: Final = Section("celery", OPTIONS, title="Where runs go that are worked by workers.")
