"""The section ``[celery]``: what carries messages, and the Redis that knows the runs."""

from typing import Final

from oslo_config import cfg

from settings.brokers import BrokerUrl, RedisUrl
from settings.section import Section

OPTIONS: Final = [
    cfg.Opt(
        "broker_url", type=BrokerUrl(), secret=True,
        help="What carries messages to workers. A Redis or Valkey: redis://[:PASSWORD@]HOST:PORT/DB, rediss:// for "
             "TLS, sentinel://:PASSWORD@HOST:PORT/DB;sentinel://..., each with the password of the Redis, or "
             "redis://:PASSWORD@HOST:26379?sentinel=MASTER. Or a RabbitMQ: amqp://USER:PASSWORD@HOST:PORT/VHOST, "
             "amqps:// for TLS. Without it every command works in its own process.",
    ),
    cfg.Opt(
        "store_url", type=RedisUrl(), secret=True,
        help="The Redis or Valkey that knows the runs. Defaults to that of broker_url; with RabbitMQ it must be given.",
    ),
    cfg.StrOpt("sentinel_master", default="mymaster", help="The name of the master that Sentinels know."),
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
    cfg.FloatOpt(
        "hang_seconds", default=600.0, min=1.0,
        help="Seconds for which a worker's child process may be at work without a sign of life, which is the end of a "
             "statement, a request or a batch. After that it counts as hanging: it is killed, and its cell is taken "
             "over. Twice read_timeout is the least.",
    ),
    cfg.IntOpt(
        "max_memory_per_child", default=512, min=0,
        help="MiB that a worker's child process may have used: then it is replaced by a new one after its slice; 0: "
             "never.",
    ),
]  # fmt: skip

SECTION: Final = Section("celery", OPTIONS, title="Where runs go that are worked by workers.")
