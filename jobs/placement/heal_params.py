"""What a run of ``placement heal_allocations`` is asked to do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar max_count: how many instances may still be healed; 0: only look whether there are any;
        None: all
    :ivar instance: the uuid of the only instance to look at; None: all are looked at
    :ivar force: give it what its flavor says, whatever it has
    :ivar dry_run: write nothing
    :ivar ports: whether ports are healed
    :ivar verbose: whether the stock tool's lines are wanted
    :ivar at_once: requests of a cell that may be under way at the same time
    :ivar run: a name for what the cells of this run share within a process
    :ivar cells: how many cells there are
    """

    max_count: int | None = None
    instance: str | None = None
    force: bool = False
    dry_run: bool = False
    ports: bool = True
    verbose: bool = False
    at_once: int = 4
    run: str = ""
    cells: int = 1
