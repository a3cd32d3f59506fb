"""The section ``[cellkeeper]``."""

from typing import Final
from zoneinfo import ZoneInfo

from oslo_config import cfg

from settings.errors import InvalidSetting
from settings.section import Section

OPTIONS: Final = [
    cfg.IntOpt(
        "concurrency", default=16, min=1,
        help="How many cells are processed at the same time. The option --concurrency overrides "
             "it.",
    ),
    cfg.IntOpt(
        "concurrency_per_server", default=8, min=1,
        help="At most this many connections to one database server: of all workers together, or "
             "of a command in its own process. A cell needs one while it is processed, with most "
             "commands also one to the server of the API database; a second one to its own server "
             "is only opened while there is room.",
    ),
    cfg.FloatOpt(
        "connect_timeout", default=5.0, min=0.1,
        help="Seconds within which a database server must accept a connection and send its "
             "greeting.",
    ),
    cfg.FloatOpt(
        "read_timeout", default=300.0, min=1.0,
        help="Seconds that one statement may take. A network that drops packets is noticed far "
             "earlier.",
    ),
    cfg.IntOpt(
        "lock_wait_timeout", default=5, min=1,
        help="Seconds to wait for a row that somebody else has locked before the batch is retried.",
    ),
    cfg.IntOpt(
        "tree_ceiling", default=100_000, min=1,
        help="A deleted row with more dependent rows than this (an instance moves in one "
             "transaction with its metadata, actions and events) is left and reported. Raise it "
             "for such a row, on Galera together with wsrep_max_ws_rows and wsrep_max_ws_size.",
    ),
    cfg.IntOpt(
        "purge_chunk", default=5_000, min=1,
        help="Rows that a purge deletes in one transaction, at most.",
    ),
    cfg.FloatOpt(
        "transaction_seconds", default=0.5, min=0.0, max=60.0,
        help="Seconds that a transaction should take. The number of its rows follows from how "
             "long earlier ones took, up to --max_rows, purge_chunk or --max-count. 0: always "
             "that many.",
    ),
    cfg.FloatOpt(
        "hypervisor_timeout", default=10.0, min=0.1,
        help="Seconds within which the libvirt of a host must have answered; otherwise it is "
             "skipped.",
    ),
    cfg.IntOpt(
        "hypervisor_concurrency", default=16, min=1,
        help="How many hosts of a cell are asked at the same time.",
    ),
    cfg.IntOpt(
        "connections", default=16, min=1,
        help="Connections of a process to each service (Placement, Neutron), and so the most "
             "requests that are in flight at the same time.",
    ),
    cfg.IntOpt(
        "requests", default=4, min=1,
        help="How many requests of one cell, or of an audit, are in flight at the same time. The "
             "option --concurrency overrides it.",
    ),
    cfg.StrOpt(
        "lock_path",
        help="Directory of the files that keep two runs of one command on this host from using one "
             "database at the same time. No other user may have access to it. Defaults to "
             ".local/state/cellkeeper in the user's home, or cellkeeper-UID in the directory for "
             "temporary files.",
    ),
    cfg.StrOpt(
        "timezone", default="UTC",
        help="The time zone of --until, of the schedule and of the times of runs, such as "
             "Europe/Berlin.",
    ),
    cfg.BoolOpt(
        "exclusion", default=True,
        help="Whether a run waits for another one of the same command on the same database. "
             "Without it, both end correctly but slow each other down.",
    ),
    cfg.StrOpt(
        "reported_version",
        help="What --version and version print, such as 32.0.0, for scripts that compare it with "
             "a release of Nova. Defaults to cellkeeper's own version, or to 34.0.0 if the "
             "program is called nova-manage.",
    ),
]  # fmt: skip

SECTION: Final = Section("cellkeeper", OPTIONS, title="How cellkeeper itself works.")


def time_zone(conf: cfg.ConfigOpts) -> ZoneInfo:
    """The configured time zone.

    :raises InvalidSetting: there is no time zone of that name
    """
    name = conf.cellkeeper.timezone
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise InvalidSetting(
            "timezone in section [cellkeeper]: it takes the name of a time zone, such as UTC or "
            "Europe/Berlin"
        ) from None
