"""The category ``throttle``: what the database servers suffer now.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

from cli.grammar import Category, Command
from cli.options import FORMAT
from cli.run_options import Format

throttle = Category("throttle", help="Commands for what pauses the work on a database server.")


@throttle.command("status", cls=Command)
@FORMAT
def status(format: Format) -> int:  # noqa: A002 - the option's name
    """Show every signal of every cell's server, with its limit.

    The limits are set in section [throttle]. A signal that has none is not looked at.

    \b
    Return codes:
      0    No signal pauses the work.
      1    A signal does.
      255  The API database cannot be read, or the section cannot be used.
    """
    from cli.throttle.status import show_status

    return show_status(format)
