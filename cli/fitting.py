"""Tables on a terminal that is too narrow for them: long cells are wrapped, or each row becomes a
paragraph.
"""

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

# A word of this length stays whole, such as a time; so does what is copied: a UUID, and a run that
# beat has named.
WHOLE: Final = 16
_COPIED: Final = re.compile(r"[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}|\S+-\d{8}T\d{6}Z")
# A longer word may end behind one of these characters.
_PART: Final = re.compile(r"[^-_./:@,=]*[-_./:@,=]+|[^-_./:@,=]+")
FRAME_OF_COLUMN: Final = len("|  ")
FRAME_OF_TABLE: Final = len("|")
INDENT: Final = "  "
HANGING: Final = "      "
GAP: Final = "   "


def terminal_width() -> int | None:
    """Columns of the terminal on standard output; None if it is none, or does not tell."""
    if sys.stdout is None:  # it was closed before the program began
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def column_widths(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[int] | None:
    """How wide each column may be in a table of this width.

    The widest columns give way first, each down to its name and to its longest part that is not to
    be broken.

    :param width: of the whole table, its frame included
    :returns: None if the table cannot be as narrow as that
    """
    cells = list(zip(*rows, strict=True)) or [()] * len(header)
    columns = [(name, *column) for name, column in zip(header, cells, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(name), *_lengths_of_parts(column)) for name, *column in columns]
    surplus = sum(widths) - (width - FRAME_OF_COLUMN * len(header) - FRAME_OF_TABLE)
    for _ in range(surplus):
        yielding = [number for number, lowest in enumerate(least) if widths[number] > lowest]
        if not yielding:
            return None
        widest = max(yielding, key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def wrap(text: str, width: int) -> str:
    """A text in lines of at most this width, if its parts are."""
    lines = [""]
    for part in _parts(text):
        if len(lines[-1]) + len(part.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def paragraph(header: Sequence[str], row: Sequence[str], width: int) -> str:
    """A row as its first cell, and below it the others with their names, but for those that are
    empty.
    """
    lines = [row[0], INDENT]
    for name, value in zip(header[1:], row[1:], strict=True):
        if not value:
            continue
        item = f"{name}: {value}"
        if lines[-1] == INDENT:
            lines[-1] += item
        elif len(lines[-1]) + len(GAP) + len(item) <= width:
            lines[-1] += GAP + item
        else:
            lines.append(INDENT + item)
    wrapped = [
        textwrap.wrap(
            line, width, subsequent_indent=HANGING, break_long_words=False, break_on_hyphens=False
        )
        for line in lines
    ]
    return "\n".join(line for few in wrapped for line in few)


def _parts(text: str) -> list[str]:
    """The parts of a text that are not to be broken, each with the spaces behind it."""
    return [part for word in re.findall(r"\S+\s*|\s+", text) for part in _parts_of_word(word)] or [
        ""
    ]


def _lengths_of_parts(texts: Iterable[str]) -> list[int]:
    return [0] + [len(part.rstrip()) for text in texts for part in _parts(text)]


def _parts_of_word(word: str) -> Iterable[str]:
    text = word.rstrip()
    return [word] if len(text) <= WHOLE or _COPIED.fullmatch(text) else _PART.findall(word)
