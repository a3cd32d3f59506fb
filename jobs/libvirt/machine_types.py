"""Machine types of QEMU: which are supported, and which may take the place of which."""

import re
from dataclasses import dataclass
from typing import Final, Self

ALIASES: Final = ("pc", "q35", "virt", "s390-ccw-virtio")
VERSIONED: Final = re.compile(
    r"(?P<family>(?:pc|pc-i440fx|pc-q35|virt|s390-ccw-virtio)-|(?:pc-i440fx|pc-q35)-rhel)"
    r"(?P<version>\d+(?:\.\d+){1,2})"
    r"(?:-[a-z][\w-]*)?",  # what distributions append, as in pc-1.0-precise
    re.ASCII,
)
VERSION_AT_THE_END: Final = re.compile(r"\d+(?:\.\d+){1,2}$", re.ASCII)


@dataclass(frozen=True)
class MachineType:
    """A machine type, taken apart.

    :ivar family: what comes before the version, or the alias; None: it is none of the supported ones
    :ivar version: None: it has none
    :source: the manual of nova-manage, ``libvirt update_machine_type``
    """

    name: str
    family: str | None
    version: tuple[int, ...] | None

    @classmethod
    def parse(cls, name: str) -> Self:
        """Take any text apart."""
        if name in ALIASES:
            return cls(name, name, None)
        if match := VERSIONED.fullmatch(name):
            return cls(name, match["family"], _numbers(match["version"]))
        end = VERSION_AT_THE_END.search(name)
        return cls(name, None, _numbers(end[0]) if end else None)

    @property
    def supported(self) -> bool:
        """Whether it is an alias or a version of a type that the manual names."""
        return self.family is not None

    @property
    def board(self) -> str:
        """What it emulates, as far as an alias and its versions have it in common."""
        return "q35" if "q35" in self.name else self.name.partition("-")[0]


def _numbers(version: str) -> tuple[int, ...]:
    """A version as numbers; 5.2 and 5.2.0 are the same."""
    numbers = [int(number) for number in version.split(".")]
    while numbers[-1:] == [0]:
        numbers.pop()
    return tuple(numbers)


def objection(old: MachineType, new: MachineType) -> str | None:
    """What an update would do that it must not, by the manual's criteria in their order; None: it may be made.

    An old type that is not supported objects to nothing but an older version: it can be compared with none.

    :param new: a supported one
    """
    turns_alias = (old.version is None) != (new.version is None)
    if old.supported and old.family != new.family and not (turns_alias and old.board == new.board):
        return "it would move the instance between underlying machine types"
    if turns_alias and (old.supported or new.version is None):
        return "it would move the instance between an alias and a versioned machine type"
    if old.version and new.version and new.version < old.version:
        return "it would move the instance to an older version"
    return None
