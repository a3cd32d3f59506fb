"""Text from outside, made fit to be printed: what would steer a terminal, or begin a line, is shown instead of done."""

import re
from typing import Final

# Control characters; marks that end a line or steer its direction; halves of characters, which stand for bytes that
# are no UTF-8.
_STEERING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A line that shows control characters in the notation of Python: ``\\x1b``, ``\\n``."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_lines(text: str) -> str:
    """The same of a text whose line feeds are its own."""
    return "\n".join(map(printable, text.split("\n")))
