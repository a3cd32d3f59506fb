"""What the demo's cloud is made of: a place for each cell, and the instances in it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from demo.rows import Dice, Sheet

HOSTS: Final = 4


@dataclass(frozen=True)
class Place:
    """One cell while it is filled.

    :ivar number: 0 for cell0, which has no hosts
    :ivar mapping: its id in ``cell_mappings``
    :ivar cell: the rows of its database
    :ivar api: the rows of the API database
    :ivar projects: the user of each project
    :ivar now: the moment from which all ages count back; naive, in UTC
    """

    number: int
    mapping: int
    cell: Sheet
    api: Sheet
    projects: dict[str, str]
    dice: Dice
    now: datetime

    @property
    def name(self) -> str:
        """The name of the cell; its database is called the same."""
        return f"cell{self.number}"

    @property
    def hosts(self) -> list[str]:
        """The compute hosts in service."""
        return [f"cmp-c{self.number}-{n:02}" for n in range(1, HOSTS + 1)]

    @property
    def retired_host(self) -> str:
        """A compute host that was taken out of service."""
        return f"cmp-c{self.number}-{HOSTS + 1:02}"


@dataclass(frozen=True)
class Flavor:
    """A size of instances; ``memory`` in MiB, ``disk`` in GiB."""

    id: int
    name: str
    vcpus: int
    memory: int
    disk: int


@dataclass(frozen=True)
class Instance:
    """What the rows of one instance have in common.

    :ivar host: None for a build that failed before it had one: such instances are in cell0
    :ivar born: when it was created
    :ivar gone: when it was deleted; None: it is alive
    """

    uuid: str
    name: str
    project: str
    user: str
    flavor: Flavor
    system: str
    image: str
    host: str | None
    born: datetime
    gone: datetime | None
