"""Doing a recorded run again with ``cellkeeper``, and what may differ."""

import json
import re
from ast import literal_eval
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.command import Ended, call_here
from tests.support.recorded.cloud import RecordedCloud
from tests.support.recorded.records import Record, short
from tests.support.recorded.stand_ins import PASSWORD

# What the stock tool prints of failures; ours go to standard error (CLI-4).
FAILURES: Final = (
    "Not able", "The Resource Provider", "Resource provider", "The following", "Unable", "Failed", "Unexp",
    "Compute host", "Healing allocation "
    "for", "There was a conflict", "Must supply", "The --", "Cell with uuid", " ",
)  # fmt: skip
DOCUMENT: Final = re.compile(r"\{.*?\}(?= for the port | with resource | attached |$)")
# Of a failure with a port the service's own words follow, in other words (HEAL-14).
PORT_FAILED: Final = re.compile(r"^((?:Updating port|Rolling back update for port) \w+ failed:).*")
# With these the stock tool stops at once, and cellkeeper goes on (HEAL-2).
STOPPED: Final = {2, 3, 5, 6, 7, 8}


class Instead(NamedTuple):
    """What is wanted where the record is not.

    :ivar id: the entry of docs/compatibility.md
    :ivar code: the exit code, where it differs
    :ivar out: whether the record's standard output holds
    :ivar err: words that standard error must have instead of the record's failures
    :ivar gone: lines of the record's state afterwards that are not there
    :ivar there: lines that are there instead
    """

    id: str
    code: int | None = None
    out: bool = True
    err: str | None = None
    gone: tuple[str, ...] = ()
    there: tuple[str, ...] = ()


def replay(
    record: Record, deviations: Mapping[str, Instead], cloud: RecordedCloud, folder: Path
) -> None:
    """Do a run again, and compare its end with the record, or with what is wanted instead."""
    wanted = deviations.get(record.name, Instead(""))
    ended = call_here(record.command, config=cloud.prepare(record, folder))
    assert ended.code == (record.code if wanted.code is None else wanted.code), ended.err
    assert PASSWORD not in ended.out + ended.err
    assert cloud.state() == (record.after - {*wanted.gone}) | {*wanted.there}
    if wanted.out and record.code != 255:
        _compare_output(record, ended)
    if wanted.err is not None:
        assert wanted.err in short(ended.err)
    else:
        _compare_failures(record, ended)


def _compare_output(record: Record, ended: Ended) -> None:
    told = _plain(line for line in record.out if not line.startswith(FAILURES))
    printed = _plain(short(ended.out).splitlines())
    if "heal_allocations" in record.command:
        assert printed[: len(told) if record.code in STOPPED else None] == told
    else:
        assert sorted(printed) == sorted(told)


def _compare_failures(record: Record, ended: Ended) -> None:
    """What the record has of failures is on standard error: of healing the sentence, otherwise at
    least all names.
    """
    err = short(ended.err)
    for line in record.out:
        if line.startswith(FAILURES):
            for name in re.findall(r"\b[0-9a-f]\d{3}\b|Missing: (\S+)", line):
                assert name in err
            if "heal_allocations" in record.command:
                assert re.split(r"[.:?]", line)[0].strip() in err


def _plain(lines: Iterable[str]) -> list[str]:
    """Lines whose documents have one order: that of resource classes is whatever Placement's
    database has.
    """
    return [PORT_FAILED.sub(r"\1", DOCUMENT.sub(_in_order, line)) for line in lines]


def _in_order(found: re.Match[str]) -> str:
    """A document of JSON or of Python."""
    document = literal_eval(found[0].replace(": null", ": None"))
    return json.dumps(document, sort_keys=True)
