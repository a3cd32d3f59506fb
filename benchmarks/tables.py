"""Results as markdown tables."""

from collections.abc import Sequence
from statistics import median

Row = Sequence[str]


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """A markdown table, its columns aligned; the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(row, widths) for row in (header, rule, *rows))


def _line(row: Row, widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
    return f"| {' | '.join(cells)} |"


def middle(values: Sequence[float]) -> float:
    """The median: one run that was disturbed does not count."""
    return median(values)
