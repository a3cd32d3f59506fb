"""The options of commands that have many, as dataclasses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HealOptions:
    """The options of ``placement heal_allocations``.

    :ivar max_count: heal at most so many instances; as typed, not checked yet
    :ivar instance: the uuid of the only one to look at
    :ivar cell: the uuid of the only cell to look in
    :ivar force: whether to replace what the instance has
    """

    max_count: str | None
    verbose: bool
    dry_run: bool
    instance: str | None
    skip_port_allocations: bool
    cell: str | None
    force: bool
