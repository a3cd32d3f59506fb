"""Arguments that are no UTF-8: refused in a line that does not repeat them, for every command that
takes a text.
"""

from collections.abc import Iterator
from typing import Final

import click
import pytest

from cli.main import USAGE, cellkeeper, run
from tests.fuzz.test_fuzz import commands

# What Python makes of bytes that are no UTF-8; in a URL, of a password in Latin-1.
BYTES: Final = "mysql+pymysql://nova:secret\udce4@db/nova\udcff"


def texts() -> Iterator[list[str]]:
    """The command lines that have it, one for each option and argument that takes a text."""
    for path, command in commands(cellkeeper):
        for param in command.params:
            if isinstance(param, click.Argument):
                yield [*path, BYTES]
            elif isinstance(param, click.Option) and not param.is_flag:
                yield [*path, param.opts[-1], BYTES]
                yield [*path, f"{param.opts[-1]}={BYTES}"]


@pytest.mark.parametrize("words", [*texts(), [BYTES], ["--config-file", BYTES, "check"]], ids=ascii)
def test_it_is_one_line_and_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    number = next(number for number, word in enumerate(words, 1) if BYTES in word)
    assert run(words) == USAGE
    assert capsys.readouterr() == (
        "",
        f"cellkeeper: Argument {number} is no UTF-8. Try: cellkeeper --help\n",
    )
