"""Section ``[celery]``: what carries messages, and the Redis that keeps the runs."""

from typing import Final

from oslo_config import cfg

from settings.brokers import BrokerUrl, RedisUrl
from settings.section import Section

OPTIONS: Final = [
    cfg.Opt(
        "broker_url", type=BrokerUrl(), secret=True,
        help="What carries messages to workers. A Redis or Valkey: "
             "redis://[:PASSWORD@]HOST:PORT/DB, rediss:// for TLS, "
             "sentinel://:PASSWORD@HOST:PORT/DB;sentinel://..., each with the password of the "
             "Redis, or redis://:PASSWORD@HOST:26379?sentinel=MASTER. Or a RabbitMQ: "
             "amqp://USER:PASSWORD@HOST:PORT/VHOST, amqps:// for TLS. Without it every command "
             "works in its own process.",
    ),
    cfg.Opt(
        "store_url", type=RedisUrl(), secret=True,
        help="The Redis or Valkey that keeps the runs. Defaults to that of broker_url; required "
             "with RabbitMQ.",
    ),
    cfg.StrOpt(
        "sentinel_master", default="mymaster",
        help="The name of the master among the Sentinels.",
    ),
    cfg.IntOpt(
        "expires", default=604_800, min=3600,
        help="Seconds for which the store keeps runs.",
    ),
    cfg.IntOpt(
        "history_days", default=400, min=1,
        help="Days for which a summary of each ended run is kept.",
    ),
    cfg.FloatOpt(
        "slice_seconds", default=20.0, min=0.0,
        help="Seconds after which a worker lets other cells have their turn; 0: after every "
             "transaction.",
    ),
    cfg.FloatOpt(
        "lease_seconds", default=30.0, min=1.0,
        help="Seconds without a sign of life from a worker after which another one takes over its "
             "cell.",
    ),
    cfg.FloatOpt(
        "hang_seconds", default=600.0, min=1.0,
        help="Seconds that a child process of a worker may work without a sign of life: the end "
             "of a statement, a request or a batch. After that it counts as hanging: it is "
             "killed, and another one takes over its cell. At least twice read_timeout.",
    ),
    cfg.IntOpt(
        "max_memory_per_child", default=512, min=0,
        help="MiB of memory after which a child process of a worker is replaced, at the end of its "
             "slice; 0: never.",
    ),
]  # fmt: skip

SECTION: Final = Section("celery", OPTIONS, title="Runs that are carried out by workers.")
