"""The sections ``[database]`` and ``[api_database]``, and the limits of database connections."""

from dataclasses import dataclass
from typing import Final

from oslo_config import cfg

from settings.errors import NotConfigured
from settings.read_files import describe_read_files
from settings.section import Section

DATABASE: Final = Section(
    "database",
    [
        cfg.StrOpt(
            "connection", secret=True,
            help="The URL of the database that is used without --all-cells, such as "
                 "mysql+pymysql://USER:PASSWORD@HOST/nova_cell0. Its parts fill the templates in "
                 "cell mappings.",
        ),
        cfg.StrOpt(
            "connection_parameters", default="", secret=True,
            help="Appended to the query of connection, and of the URL of each cell, as in "
                 "ssl_ca=/etc/ssl/ca.pem.",
        ),
        cfg.StrOpt(
            "slave_connection", secret=True,
            help="The URL of a replica of that database. Only its lag is read, if max_lag in "
                 "section [throttle] is set.",
        ),
    ],
    in_nova_conf=True,
)  # fmt: skip

API_DATABASE: Final = Section(
    "api_database",
    [
        cfg.StrOpt(
            "connection", secret=True,
            help="The URL of the API database, such as "
                 "mysql+pymysql://USER:PASSWORD@HOST/nova_api.",
        ),
        cfg.StrOpt(
            "connection_parameters", default="", secret=True,
            help="Appended to the query of connection, as in ssl_ca=/etc/ssl/ca.pem.",
        ),
    ],
    in_nova_conf=True,
)  # fmt: skip


@dataclass(frozen=True)
class Timeouts:
    """Limits of a database connection.

    :ivar connect: seconds until the server must have greeted
    :ivar read: seconds one statement may take
    :ivar lock_wait: seconds to wait for a locked row
    """

    connect: float = 5.0
    read: float = 300.0
    lock_wait: int = 5


def connection_timeouts(conf: cfg.ConfigOpts) -> Timeouts:
    """The limits of database connections, as configured."""
    options = conf.cellkeeper
    return Timeouts(options.connect_timeout, options.read_timeout, options.lock_wait_timeout)


def connection_url(conf: cfg.ConfigOpts, group: str) -> str:
    """The URL of ``[database]`` or ``[api_database]``.

    :raises NotConfigured: it is not set
    """
    url: str | None = conf[group].connection
    if not url:
        raise NotConfigured(
            f"No database is configured: set connection in section [{group}] of nova.conf "
            f"({describe_read_files(conf)})"
        )
    return url
