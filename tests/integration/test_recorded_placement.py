"""Recorded runs of the stock tool's audit and sync_aggregates, done again: the same but for what is documented."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from cli.main import run
from tests.placement import Placement, nova_conf
from tests.relay import Relay
from tests.services import free_port
from tests.two_cells import TwoCells

RECORDED: Final = Path(__file__).parents[1] / "data" / "recorded" / "placement.txt"
SHORT: Final = re.compile(r"\b([0-9a-f])(\d{3})\b")
LONG: Final = re.compile(r"\b([0-9a-f])\1{7}-0000-4000-8000-0{9}(\d{3})\b")
# What the stock tool prints of failures; ours go to standard error (CLI-4).
FAILURES: Final = (
    "Not able",
    "The Resource Provider",
    "Resource provider",
    "The following",
    "Unable",
    "Failed",
    "Unexp",
)
LOST: Final = {"A80-cell2-db-down": "cell2", "A81-own-cell-db-down": "cell2"}
CELLLESS: Final = "A70-no-cells"


class Instead(NamedTuple):
    """What is wanted where the record is not.

    :ivar id: the entry of docs/compatibility.md
    :ivar code: the exit code, where it differs
    :ivar out: whether the record's standard output holds
    :ivar gone: lines of the record's state afterwards that are not there
    :ivar there: lines that are there instead
    """

    id: str
    code: int | None = None
    out: bool = True
    gone: tuple[str, ...] = ()
    there: tuple[str, ...] = ()


DEVIATIONS: Final = {
    "A10b-quiet": Instead("AUD-1", out=False),
    "A52-sharing-provider": Instead("AUD-3", code=0, out=False),
    "A53-sharing-provider-delete": Instead(
        "AUD-3", code=0, out=False,
        gone=("consumer 1001 c001:MEMORY_MB=512,VCPU=1",),
        there=("consumer 1001 c001:MEMORY_MB=512,VCPU=1 d005:DISK_GB=10",),
    ),
    "A60-delete-500": Instead("AUD-5", out=False, gone=("consumer f002 c002:DISK_GB=10,MEMORY_MB=512,VCPU=1",)),
    "A61-put-409": Instead("AUD-6", code=1, out=False),
    "A62-rp-allocations-500": Instead("AUD-7", code=1, out=False),
    "A63-rps-500": Instead("AUD-7", code=1),
    "A64-consumer-generation-conflict": Instead("AUD-5", out=False),
    "A80-cell2-db-down": Instead("AUD-2", code=1),
    "A81-own-cell-db-down": Instead("AUD-2", code=1, out=False),
    "S02-again": Instead("SYN-1", out=False),
    "S20-get-aggregates-500": Instead("SYN-3", out=False, there=("rp c002 aggs=a001",)),
    "S21-provider-missing": Instead("SYN-2", code=6),
    "S22-provider-missing-second": Instead("SYN-2", code=6, out=False, there=("rp c003 aggs=a001",)),
    "S30-put-500": Instead("SYN-3", out=False, there=("rp c002 aggs=a001",)),
    "S32-put-409-always": Instead("SYN-3", out=False, there=("rp c002 aggs=a001",)),
    "S52-twice": Instead("SYN-1", out=False),
}  # fmt: skip


@dataclass
class Record:
    """A recorded run."""

    name: str
    before: list[str] = field(default_factory=list)
    command: str = ""
    faults: list[str] = field(default_factory=list)
    code: int = 0
    out: list[str] = field(default_factory=list)
    after: set[str] = field(default_factory=set)


def records() -> Iterator[Record]:
    for block in RECORDED.read_text().strip().split("\n\n"):
        first, *lines = block.splitlines()
        record = Record(first.removeprefix("# ").partition(":")[0])
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "$":
                record.command = rest
            elif word == "fault":
                record.faults.append(rest)
            elif word == "exit":
                record.code = int(rest)
            elif word == ">":
                record.out.append(rest)
            elif word == "after":
                record.after.add(rest)
            else:
                record.before.append(line)
        yield record


def full(text: str) -> str:
    """Uuids written in full."""
    return SHORT.sub(lambda found: f"{found[1] * 8}-0000-4000-8000-000000000{found[2]}", text)


def short(text: str) -> str:
    """Uuids written as in the records."""
    return LONG.sub(lambda found: found[1] + found[2], text)


RECORDS: Final = list(records())


def furnish(lines: list[str], cloud: TwoCells, placement: Placement) -> None:
    """Bring the cells and Placement into a recorded state."""
    for line in lines:
        kind, *words = line.split()
        named = {name: None if value == "None" else value for name, _, value in (word.partition("=") for word in words)}
        if kind == "host_mapping":
            cloud.map_host(words[0], words[2])
        elif kind == "aggregate":
            hosts = named["hosts"] or ""
            cloud.aggregate(
                full(words[0]), words[1], *(host for host in hosts.strip("[]").split(",") if host != "None")
            )
        elif kind == "rp":
            inventory = dict(part.split("=") for part in (named["inv"] or "").split(",") if part)
            parent = full(named["parent"]) if named.get("parent") else None
            placement.provide(full(words[0]), words[1], {one: int(total) for one, total in inventory.items()}, parent)
            if named.get("aggs"):
                placement.join(full(words[0]), *full(named["aggs"] or "").split(","))
        elif kind == "consumer":
            placement.allocate(full(words[0]), held(words[1:]), "p1", "u1")
        elif words[0] == "compute_node":
            cloud.node(kind, full(words[1]), named["host"] or "", named["node"], deleted=named["deleted"])
        elif words[0] == "instance":
            cloud.instance(kind, full(words[1]), named["host"], named["node"], deleted=named["deleted"])
        elif words[0] == "migration":
            source, _, destination = words[3].partition("->")
            cloud.migration(kind, full(words[1]), full(named["instance"] or ""), source, destination, words[4])
        else:
            raise AssertionError(line)


def held(words: list[str]) -> dict[str, dict[str, int]]:
    """``c001:VCPU=1,MEMORY_MB=512`` as allocations."""
    allocations = {}
    for word in words:
        provider, _, amounts = word.partition(":")
        allocations[full(provider)] = {one: int(n) for one, n in (part.split("=") for part in amounts.split(","))}
    return allocations


def state(before: list[str], placement: Placement) -> set[str]:
    """Allocations and aggregates as the records have them."""
    found = set()
    for line in before:
        kind, uuid, *_ = line.split()
        if kind == "consumer":
            allocations = sorted(placement.held(full(uuid)).items())
            words = [
                f"{one}:{','.join(f'{kind}={n}' for kind, n in sorted(held.items()))}" for one, held in allocations
            ]
            found |= {short(" ".join(["consumer", uuid, *words]))} if words else set()
        elif kind == "rp" and (aggregates := placement.aggregates(full(uuid))):
            found.add(short(f"rp {uuid} aggs={','.join(sorted(aggregates))}"))
    return found


def unordered(lines: list[str]) -> list[str]:
    """Lines without the order that Placement's database happens to have, of consumers and of classes."""
    return sorted(re.sub(r"\{(.*)\}", lambda found: str(sorted(found[1].split(", "))), line) for line in lines)


@pytest.mark.parametrize("record", RECORDS, ids=[record.name for record in RECORDS])
def test_the_stock_tool_did_the_same(
    record: Record,
    two_cells: TwoCells,
    placement: Placement,
    relay: Relay,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    furnish(record.before, two_cells, placement)
    if record.name in LOST:
        two_cells.lose(LOST[record.name], free_port())
    if record.name == CELLLESS:
        two_cells.forget_cells()
    for fault in record.faults:
        method, path, status, times, body = fault.split(" ", 4)
        for sent in {"DELETE": ("DELETE", "PUT")}.get(method, (method,)):  # AUD-4
            relay.fail(sent, full(path) + "$", status=int(status), body=full(body), times=int(times) or None)
    config = two_cells.config(tmp_path, nova_conf(relay.url))
    wanted = DEVIATIONS.get(record.name, Instead(""))

    code = run(["--config-file", str(config), *full(record.command).split()])

    out, err = map(short, capsys.readouterr())
    assert code == (record.code if wanted.code is None else wanted.code), err
    assert state(record.before, placement) == (record.after - {*wanted.gone}) | {*wanted.there}
    failures = [line for line in record.out if line.startswith(FAILURES)]
    if wanted.out:
        assert unordered(out.splitlines()) == unordered([line for line in record.out if line not in failures])
    for line in failures:
        for name in re.findall(r"\b[0-9a-f]\d{3}\b|Missing: (\S+)", line):
            assert name in err
