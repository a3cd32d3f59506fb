"""Machine types of QEMU: which are supported, and which may replace which."""

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
TRAILING_VERSION: Final = re.compile(r"\d+(?:\.\d+){1,2}$", re.ASCII)


@dataclass(frozen=True)
class MachineType:
    """A machine type, split into its parts.

    :ivar family: the part before the version, or the alias; None: it is not supported
    :ivar version: None: it has no version
    :source: the manual of nova-manage, ``libvirt update_machine_type``
    """

    name: str
    family: str | None
    version: tuple[int, ...] | None

    @classmethod
    def parse(cls, name: str) -> Self:
        """Parse any text."""
        if name in ALIASES:
            return cls(name, name, None)
        if match := VERSIONED.fullmatch(name):
            return cls(name, match["family"], _parse_version(match["version"]))
        trailing = TRAILING_VERSION.search(name)
        return cls(name, None, _parse_version(trailing[0]) if trailing else None)

    @property
    def supported(self) -> bool:
        """Whether it is an alias or a version of a type that the manual names."""
        return self.family is not None

    @property
    def board(self) -> str:
        """The board that it emulates: an alias and its versions have it in common."""
        return "q35" if "q35" in self.name else self.name.partition("-")[0]


def _parse_version(version: str) -> tuple[int, ...]:
    """The numbers of a version; 5.2 and 5.2.0 are the same."""
    numbers = [int(number) for number in version.split(".")]
    while numbers[-1:] == [0]:
        numbers.pop()
    return tuple(numbers)


def objection_to_update(old: MachineType, new: MachineType) -> str | None:
    """Why an update must not be made, by the manual's criteria in their order; None: it may be.

    An old type that is not supported can only be compared by its version.

    :param new: a supported type
    """
    changes_kind = (old.version is None) != (new.version is None)
    if old.supported and old.family != new.family and not (changes_kind and old.board == new.board):
        return "it would move the instance between underlying machine types"
    if changes_kind and (old.supported or new.version is None):
        return "it would move the instance between an alias and a versioned machine type"
    if old.version and new.version and new.version < old.version:
        return "it would move the instance to an older version"
    return None
