"""Makes text from outside safe to print: control characters are shown instead of obeyed."""

import re
from typing import Final

# Control characters; marks that end a line or change its direction; surrogates, which stand for
# bytes that are not UTF-8.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_UNPRINTABLE_IN_LINES: Final = re.compile(rf"(?!\n){_UNPRINTABLE.pattern}")


def printable(text: str) -> str:
    """A line in which control characters are escaped as in Python: ``\\x1b``, ``\\n``."""
    return _UNPRINTABLE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """A text whose control characters are escaped, except for its line feeds."""
    return _UNPRINTABLE_IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
