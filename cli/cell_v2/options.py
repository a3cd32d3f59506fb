"""The options of commands that have many, as values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NewCellOptions:
    """The options of ``cell_v2 create_cell``; URLs that are None are the configured ones."""

    name: str | None
    database_connection: str | None
    transport_url: str | None
    verbose: bool
    disabled: bool


@dataclass(frozen=True)
class UpdateOptions:
    """The options of ``cell_v2 update_cell``.

    :ivar keep_urls: whether URLs that are None stay as they are; otherwise the configured ones are set
    """

    cell_uuid: str
    name: str | None
    transport_url: str | None
    database_connection: str | None
    disable: bool
    enable: bool
    keep_urls: bool


@dataclass(frozen=True)
class DiscoverOptions:
    """The options of ``cell_v2 discover_hosts``.

    :ivar cell_uuid: the cell to search; None: all
    :ivar wait_for: go on until so many new hosts are mapped; None: one look
    :ivar timeout: seconds to go on for at most; None: as documented
    """

    cell_uuid: str | None
    verbose: bool
    strict: bool
    by_service: bool
    wait_for: int | None
    timeout: float | None
