"""The section ``[cellkeeper]``."""

from typing import Final
from zoneinfo import ZoneInfo

from oslo_config import cfg

from settings.errors import InvalidSetting
from settings.section import Section

OPTIONS: Final = [
    cfg.IntOpt(
        "concurrency", default=16, min=1,
        help="How many cells are worked at the same time. The option --concurrency overrides it.",
    ),
    cfg.IntOpt(
        "concurrency_per_server", default=8, min=1,
        help="How many connections to one database server there are at most: of all workers together, or of a command "
             "in its own process. A cell that is worked needs one, and with most commands one to the server of the API "
             "database; a second one to its own is taken only where the server has it to spare.",
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
        help="Rows that a purge deletes in one transaction, at most.",
    ),
    cfg.FloatOpt(
        "transaction_seconds", default=0.5, min=0.0, max=60.0,
        help="Seconds that a transaction should take: it has as many rows as go into that, by how long those before "
             "took, and at most as many as --max_rows, purge_chunk or --max-count allow. 0: as many as these allow.",
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
             "same time, on this host; it must be this user's alone. Defaults to .local/state/cellkeeper in the "
             "home of the user, or cellkeeper-UID in the folder for temporary files.",
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
    cfg.StrOpt(
        "reported_version",
        help="What --version and version print, for scripts that compare it with a release of Nova, such as 32.0.0. "
             "Defaults to cellkeeper's own version; where the program is called nova-manage, to 34.0.0.",
    ),
]  # fmt: skip

SECTION: Final = Section("cellkeeper", OPTIONS, title="How cellkeeper itself works.")


def time_zone(conf: cfg.ConfigOpts) -> ZoneInfo:
    """The time zone of times of day.

    :raises InvalidSetting: there is no zone of that name
    """
    name = conf.cellkeeper.timezone
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise InvalidSetting(
            "timezone in section [cellkeeper]: it takes the name of a time zone, such as UTC or Europe/Berlin"
        ) from None
