"""The records of tests/data/recorded, read."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.support.two_cells import CELLS

FOLDER: Final = Path(__file__).parents[2] / "data" / "recorded"
SHORT: Final = re.compile(r"(?<![\w-])([0-9a-f])(\d{3})(?![\w-])")
LONG: Final = re.compile(r"\b([0-9a-f])\1{7}-0000-4000-8000-0{9}(\d{3})\b")
ROOM: Final = "DISK_GB=4000,MEMORY_MB=262144,VCPU=64"
SMALL: Final = "DISK_GB=10,MEMORY_MB=512,VCPU=1"


@dataclass(frozen=True)
class Fault:
    """An answer in a service's stead.

    :ivar times: how often; None: always
    :ivar skip: how many such requests pass before
    """

    method: str
    path: str
    status: int
    times: int | None
    skip: int
    body: str

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what stands behind ``fault``."""
        method, path, status, times, *body = text.split(" ", 4)
        skip = int(times) if times.startswith("+") else 0
        return cls(
            method,
            full(path),
            int(status),
            None if skip else int(times) or None,
            skip,
            full("".join(body)),
        )


@dataclass
class Record:
    """A recorded run.

    :ivar access: how the services are reached, and what a relay does about tokens
    :ivar cellless: whether no cell is mapped
    :ivar away: the cell whose database does not answer
    """

    name: str
    before: list[str] = field(default_factory=list)
    access: list[str] = field(default_factory=lambda: ["password"])
    cellless: bool = False
    away: str = ""
    command: str = ""
    faults: list[Fault] = field(default_factory=list)
    code: int = 0
    out: list[str] = field(default_factory=list)
    after: set[str] = field(default_factory=set)

    def add(self, line: str) -> None:
        """Take a line of the record."""
        word, _, rest = line.partition(" ")
        match word:
            case "config":
                self.access = rest.split()
            case "cellless":
                self.cellless = True
            case "away":
                self.away = rest
            case "$":
                self.command = full(rest)
            case "fault":
                self.faults.append(Fault.read(rest))
            case "exit":
                self.code = int(rest)
            case ">":
                self.out.append(rest)
            case "after":
                self._expect(rest)
            case "many":
                self.before += many(line.split())
            case _:
                self.before.append(line)

    def _expect(self, rest: str) -> None:
        """Take a line of what there is afterwards; it replaces what was said of its subject."""
        if rest.startswith("many "):
            self.after |= {one for one in many(rest.split()) if one.startswith("consumer ")}
        else:
            subject = " ".join(rest.split()[:2]) + " "
            self.after = {one for one in self.after if not one.startswith(subject)} | {rest}


def read(name: str) -> list[Record]:
    """All records of a file."""
    found = []
    for block in (FOLDER / name).read_text().strip().split("\n\n"):
        first, *lines = block.splitlines()
        record = Record(first.removeprefix("# ").partition(":")[0])
        for line in lines:
            record.add(line)
        found.append(record)
    return found


def many(words: Sequence[str]) -> Iterator[str]:
    """``many 200 on 4 held`` line by line: so many instances of one kind, in turn on so many hosts
    of cell1.
    """
    instances, hosts, what = int(words[1]), int(words[3]), words[4] if len(words) > 4 else "held"
    for host in range(1, hosts + 1):
        yield f"cell1 compute_node c{host:03} host=host{host} node=host{host} deleted=0"
        yield f"host_mapping host{host} -> cell1"
        yield f"rp c{host:03} host{host} inv={ROOM}"
    for number in range(instances):
        uuid, host, deleted = (
            f"1{number + 1:03}",
            number % hosts + 1,
            number + 1 if what == "orphaned" else 0,
        )
        yield f"cell1 instance {uuid} host=host{host} node=host{host} deleted={deleted}"
        if what != "lacking":
            yield f"consumer {uuid} c{host:03}:{SMALL}"


def full(text: str) -> str:
    """Uuids written in full."""
    text = SHORT.sub(lambda found: f"{found[1] * 8}-0000-4000-8000-000000000{found[2]}", text)
    for name, uuid in CELLS.items():
        text = text.replace(f"{{{name}}}", uuid)
    return text


def short(text: str) -> str:
    """Uuids written as in the records."""
    for name, uuid in CELLS.items():
        text = text.replace(uuid, f"{{{name}}}")
    return LONG.sub(lambda found: found[1] + found[2], text)
