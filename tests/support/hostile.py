"""A name that would steer a terminal, begin a line of its own or turn the direction of what
follows.
"""

import re
from typing import Final

# Sets the title of the terminal, clears it, begins a line, goes back to its beginning, colours by a
# single character, turns the direction, takes two columns a character, and is markup of the library
# that draws the live table.
NAME: Final = "one\x1b]0;title\x07\x1b[2J\nsecond\r\tx\x9b31m\u2028\u202e\u6771\u4eac[/bold] end"
SHOWN: Final = (
    r"one\x1b]0;title\x07\x1b[2J\nsecond\r\tx\x9b31m\u2028\u202e" + "\u6771\u4eac[/bold] end"
)
CONTROL: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def assert_shown(text: str) -> None:
    """The name is there, in the line in which it belongs."""
    assert not CONTROL.search(text)
    lines = [line for line in text.splitlines() if "second" in line]
    assert lines
    assert all(SHOWN in line for line in lines)
