"""The options of commands that have many, as dataclasses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NewCellOptions:
    """The options of ``cell_v2 create_cell``; a URL that is None is the configured one."""

    name: str | None
    database_connection: str | None
    transport_url: str | None
    verbose: bool
    disabled: bool


@dataclass(frozen=True)
class UpdateOptions:
    """The options of ``cell_v2 update_cell``.

    :ivar keep_urls: leave URLs that are None as they are, instead of setting the configured ones
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
    :ivar wait_for: search again until so many new hosts are mapped; None: search once
    :ivar timeout: seconds to wait at most; None: as documented
    """

    cell_uuid: str | None
    verbose: bool
    strict: bool
    by_service: bool
    wait_for: int | None
    timeout: float | None
