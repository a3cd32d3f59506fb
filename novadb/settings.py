"""What cellkeeper reads of nova.conf."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from oslo_config import cfg
from oslo_log import log

from novadb.errors import NotConfigured

PROGRAM: Final = "cellkeeper"

CELLKEEPER = cfg.OptGroup("cellkeeper", "How cellkeeper itself works.")

TRANSPORT = cfg.StrOpt(
    "transport_url", default="rabbit://", secret=True,  # oslo.messaging's default
    help="The message queue that new cell mappings get, and that fills templates in those that are there.",
)  # fmt: skip

LIBVIRT_OPTIONS = [
    cfg.StrOpt(
        "connection_uri", default="",
        help="The libvirt of a host, with {host} in the place of its name: qemu+tls://{host}/system.",
    ),
]  # fmt: skip

CELLKEEPER_OPTIONS = [
    cfg.IntOpt(
        "concurrency", default=16, min=1,
        help="How many cells are worked at the same time. The option --concurrency overrides it.",
    ),
    cfg.IntOpt(
        "concurrency_per_server", default=8, min=1,
        help="How many cells whose databases share one server are worked at the same time.",
    ),
    cfg.FloatOpt(
        "connect_timeout", default=5.0, min=0.1,
        help="Seconds within which a database server must accept a connection and greet.",
    ),
    cfg.FloatOpt(
        "read_timeout", default=300.0, min=1.0,
        help="Seconds that one statement may take. A network that swallows packets is noticed far earlier.",
    ),
    cfg.IntOpt(
        "lock_wait_timeout", default=5, min=1,
        help="Seconds to wait for a row that somebody else has locked, before the batch is tried again.",
    ),
    cfg.IntOpt(
        "tree_ceiling", default=100_000, min=1,
        help="A deleted row that brings along more rows than this (an instance with its metadata, actions and "
             "events moves in one transaction) is left and reported. Raise it for such a row, on Galera "
             "together with wsrep_max_ws_rows and wsrep_max_ws_size.",
    ),
    cfg.IntOpt(
        "purge_chunk", default=5_000, min=1,
        help="Rows that a purge deletes in one transaction.",
    ),
    cfg.FloatOpt(
        "hypervisor_timeout", default=10.0, min=0.1,
        help="Seconds within which the libvirt of a host must have told all that it is asked, or is passed over.",
    ),
    cfg.IntOpt(
        "hypervisor_concurrency", default=16, min=1,
        help="How many hosts of a cell are asked at the same time.",
    ),
    cfg.IntOpt(
        "connections", default=16, min=1,
        help="Connections of a process to each service (Placement, Neutron): so many requests are under way at most.",
    ),
    cfg.IntOpt(
        "requests", default=4, min=1,
        help="How many requests of one cell, or of an audit, are under way at the same time. The option --concurrency "
             "overrides it.",
    ),
    cfg.StrOpt(
        "lock_path",
        help="Directory of the files that keep two runs of one command from working on one database at the "
             "same time, on this host. Defaults to cellkeeper-UID in the folder for temporary files.",
    ),
    cfg.StrOpt(
        "timezone", default="UTC",
        help="The time zone of --until, of the schedule, and of the times of runs: a name such as Europe/Berlin.",
    ),
    cfg.BoolOpt(
        "exclusion", default=True,
        help="Whether a run waits for another one of the same command on the same database. Both end right "
             "without it; they only get in each other's way.",
    ),
]  # fmt: skip

CONNECTIONS: Final = {
    "database": "The URL of the database that is worked without --all-cells, such as "
                "mysql+pymysql://USER:PASSWORD@HOST/nova_cell0. Its parts fill the templates in cell mappings.",
    "api_database": "The URL of the API database, such as mysql+pymysql://USER:PASSWORD@HOST/nova_api.",
}  # fmt: skip


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


def load(
    words: Sequence[str],
    *more: Callable[[cfg.ConfigOpts], None],
    overrides: Mapping[str, Any] = MappingProxyType({}),
) -> cfg.ConfigOpts:
    """Read the configuration, and set up logging.

    The files are those the stock tool reads, and ``cellkeeper.conf`` beside them. Logs go to standard error unless
    the configuration says otherwise: standard output is for results.

    :param words: global options of the command line
    :param more: make further options known
    :param overrides: options of the section DEFAULT that were given where oslo does not look; unknown ones are left out
    :raises cfg.Error: a file is missing or cannot be understood
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf.set_default("use_stderr", True)
    for known in (register, *more):
        known(conf)
    files = cfg.find_config_files(project="nova", prog="nova-manage")
    files += [name for name in cfg.find_config_files(project="nova", prog=PROGRAM) if name not in files]
    conf(list(words), project="nova", prog=PROGRAM, version=version(PROGRAM), default_config_files=files)
    for name, value in overrides.items():
        if name in conf:
            conf.set_override(name, value)
    if conf.log_file or conf.log_dir:
        conf.set_default("use_stderr", False)
    log.setup(conf, PROGRAM)
    return conf


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known that cellkeeper reads."""
    conf.register_opts([TRANSPORT])
    for group, text in CONNECTIONS.items():
        conf.register_opts([cfg.StrOpt("connection", secret=True, help=text)], group=group)
    conf.register_opts(LIBVIRT_OPTIONS, group="libvirt")
    conf.register_group(CELLKEEPER)
    conf.register_opts(CELLKEEPER_OPTIONS, group=CELLKEEPER)


def zone(conf: cfg.ConfigOpts) -> ZoneInfo:
    """The time zone of times of day.

    :raises cfg.ConfigFileValueError: nobody knows one of that name
    """
    name = conf.cellkeeper.timezone
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise cfg.ConfigFileValueError(
            f"timezone in section [cellkeeper]: {name!r} is no time zone; use UTC, or a name such as Europe/Berlin"
        ) from None


def timeouts(conf: cfg.ConfigOpts) -> Timeouts:
    """The limits of database connections, as configured."""
    own = conf.cellkeeper
    return Timeouts(own.connect_timeout, own.read_timeout, own.lock_wait_timeout)


def connection_url(conf: cfg.ConfigOpts, group: str) -> str:
    """The URL of ``[database]`` or ``[api_database]``.

    :raises NotConfigured: there is none
    """
    url: str | None = conf[group].connection
    if not url:
        raise NotConfigured(f"No database is configured: set connection in section [{group}] of nova.conf")
    return url
