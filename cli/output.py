"""What the commands print: results on standard output, the rest on standard error.

All that a command prints goes through here (but for the live table, see ``progress``), and all text
may come from outside: control characters are shown, not obeyed.
"""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from cli.fitting import column_widths, paragraph, terminal_width, wrap
from settings.printable import printable, printable_lines

if TYPE_CHECKING:
    from jobs.action import CellResult, Failure

# How many trees that were left are named on standard error, per cell.
NAMED: Final = 10
# How many lines of standard error stand in the JSON of a command that has ended without a result.
REMEMBERED: Final = 1000


WORDS_AT_ONCE: Final = 4096
"""Words of a JSON document that are joined at once: as a list, those of many cells take several
times their text.
"""
FIRST_NAMES: Final = 3
"""How many of a list are named in a cell of a table."""


@dataclass
class Printed:
    """What the command has printed so far.

    :ivar results: whether anything went to standard output
    :ivar messages: the lines on standard error, the first ``REMEMBERED`` of them
    """

    results: bool = False
    messages: list[str] = field(default_factory=list)


printed: Printed = Printed()
_captured: ContextVar[list[str] | None] = ContextVar("_captured", default=None)


def begin_printing() -> None:
    """Forget what an earlier command of this process has printed."""
    printed.results = False
    printed.messages.clear()


def first_names(names: Sequence[str]) -> str:
    """A few of the names, and how many more there are."""
    named = ", ".join(names[:FIRST_NAMES])
    more = len(names) - FIRST_NAMES
    return f"{named} and {more} more" if more > 0 else named


class Lines(str):
    """A text that the program itself has divided into lines; in any other text a line feed is
    data.
    """

    __slots__ = ()


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Let this thread print nothing: what it says is listed instead, and its results are
    dropped.
    """
    said: list[str] = []
    token = _captured.set(said)
    try:
        yield said
    finally:
        _captured.reset(token)


def say(text: str) -> None:
    """Print a line, or ``Lines``, on standard error, if anybody listens."""
    if (said := _captured.get()) is not None:
        said.append(text)
        return
    if len(printed.messages) < REMEMBERED:
        printed.messages += text.splitlines() if isinstance(text, Lines) else [text]
    if sys.stderr is None:  # it was closed before the program began
        return
    with contextlib.suppress(OSError):
        # Not Click's echo: it would write past the live table, which takes the place of standard
        # error, and into it.
        sys.stderr.write(f"{_shown(text)}\n")
        sys.stderr.flush()


def put_error(code: int) -> None:
    """Print, for a script that wants JSON, why a command has ended without any result.

    :param code: its exit code
    """
    put_json({"exit_code": code, "messages": list(printed.messages)})


def put(text: str, newline: bool = True) -> None:
    """Print a line, or ``Lines``, on standard output. That nobody takes it ends no work; see
    ``lost_output``.
    """
    if _captured.get() is not None:
        return
    printed.results = True
    try:
        click.echo(_shown(text), nl=newline)
    except OSError as error:
        _lose_output(error)


def flush_output() -> bool:
    """Write what is still buffered of standard output.

    :returns: whether it could be written; if not, nothing of it is tried again, see ``lost_output``
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _lose_output(error)
        return False
    return True


def flush_messages() -> None:
    """Write what is still buffered of standard error, or drop it: the interpreter would end with a
    code of its own.
    """
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end of the process


def _lose_output(error: OSError) -> None:
    _lost.append(error)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the end of the process


def _shown(text: str) -> str:
    return printable_lines(text) if isinstance(text, Lines) else printable(text)


_lost: list[OSError] = []


def lost_output() -> OSError | None:
    """Why results could not be printed, if so; that a reader has seen enough is no reason."""
    return next((error for error in _lost if not isinstance(error, BrokenPipeError)), None)


def put_json(document: Any) -> None:
    """Print a document on standard output."""
    words = json.JSONEncoder(indent=2, default=_in_json).iterencode(document)
    pieces = []
    while piece := "".join(islice(words, WORDS_AT_ONCE)):
        pieces.append(piece)
    put(Lines("".join(pieces)))


def _in_json(value: Any) -> str:
    if isinstance(value, datetime):
        in_utc = value.astimezone(UTC) if value.tzinfo else value  # what Nova's columns hold is UTC
        return in_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def stock_table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], *, centred: bool = False
) -> Lines:
    """A table of the stock tool's, which scripts may read from a terminal as well.

    :param centred: whether its cells are; else they stand to the left
    """
    return Lines(_drawn(header, _printable_cells(rows), centred=centred))


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Lines:
    """A table in the form of the stock tool's.

    On a terminal that is too narrow for it, long cells are wrapped, or each row becomes a
    paragraph.
    """
    cells = _printable_cells(rows)
    width = terminal_width()
    if width is not None:
        widths = column_widths(header, cells, width)
        if widths is None:
            return Lines("\n".join(paragraph(header, row, width) for row in cells))
        cells = [[wrap(*cell) for cell in zip(row, widths, strict=True)] for row in cells]
    return Lines(_drawn(header, cells))


def _printable_cells(rows: Iterable[Sequence[Any]]) -> list[list[str]]:
    return [[printable(str(value)) for value in row] for row in rows]


def _drawn(header: Sequence[str], rows: Sequence[Sequence[str]], *, centred: bool = False) -> str:
    from prettytable import PrettyTable

    drawn = PrettyTable(list(header))
    drawn.align = "c" if centred else "l"
    drawn.add_rows([list(row) for row in rows])
    return drawn.get_string()


def labels(results: "Sequence[CellResult[Any]]") -> list[str]:
    """A name per cell that no other cell has: cells may share a name, or have none."""
    names = Counter(result.cell.label for result in results)
    return [
        result.cell.label if names[result.cell.label] == 1 else result.cell.identity
        for result in results
    ]


def say_failures(results: "Sequence[CellResult[Any]]", done: str) -> None:
    """Name each cell that failed, with what was done there before.

    :param done: the past participle of what the command does
    """
    for label, result in zip(labels(results), results, strict=True):
        if result.failure:
            before = (
                f" ({result.outcome.rows} rows were {done} before)" if result.outcome.rows else ""
            )
            say(failure_line(label, result.failure) + before)


def failure_line(label: str, failure: "Failure") -> str:
    """Why a cell failed, in a line that names the cell once: what a cell's own database says names
    it already.
    """
    from jobs.action import FailureKind

    return failure.reason if failure.kind is FailureKind.CELL else f"{label}: {failure.reason}"


def by_name(rows: Mapping[str, int]) -> dict[str, int]:
    """Numbers of rows in the order of their tables: that in which rows were counted depends on the
    pace of the run.
    """
    return dict(sorted(rows.items()))


def cell_as_data(result: "CellResult[Any]") -> dict[str, Any]:
    """What every command's JSON says of a cell."""
    state = "failed" if result.failure else "complete" if result.complete else "incomplete"
    return {
        "cell": result.cell.name,
        "uuid": result.cell.uuid,
        "state": state,
        "failure": result.failure.reason if result.failure else None,
        "seconds": round(result.seconds, 3),
    }
