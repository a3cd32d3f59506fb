"""The program ``cellkeeper``: the table of its categories, and what becomes of errors."""

import gc
import os
import re
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import click

from cli.api_db.commands import api_db
from cli.cell_v2.commands import cell_v2
from cli.db.commands import db
from cli.flower import flower
from cli.grammar import Category
from cli.libvirt.commands import libvirt
from cli.output import (
    Lines,
    begin_printing,
    flush_messages,
    flush_output,
    lost_output,
    printed,
    put,
    put_error,
    say,
)
from cli.placement.commands import placement
from cli.runs.commands import runs
from cli.schedule.commands import beat, schedule
from cli.signals import watch
from cli.start import EXIT_INTERRUPTED, INTERRUPTED
from cli.throttle.commands import throttle
from cli.version import reported_version
from cli.watch.commands import check, metrics
from cli.worker import worker
from jobs.exit_codes import UNEXPECTED

USAGE: Final = 2

HELP: Final = """Keep the databases of an OpenStack Nova deployment in order: as nova-manage does,
on all cells at once.

The options below apply to all commands, before or after the command.
"""

cellkeeper = Category(
    "cellkeeper",
    help=HELP,
    aliases={"cells_v2": "cell_v2"},
    context_settings={"help_option_names": ["-h", "--help"]},
)
cellkeeper.add_command(api_db)
cellkeeper.add_command(cell_v2)
cellkeeper.add_command(db)
cellkeeper.add_command(libvirt)
cellkeeper.add_command(placement)
cellkeeper.add_command(runs)
cellkeeper.add_command(worker)
cellkeeper.add_command(flower)
cellkeeper.add_command(beat)
cellkeeper.add_command(schedule)
cellkeeper.add_command(throttle)
cellkeeper.add_command(check)
cellkeeper.add_command(metrics)


@cellkeeper.command("version", help="Print the version.")
def print_version() -> None:
    put(reported_version())


@cellkeeper.command(
    "bash-completion", help="Print the categories, or the commands of one, on a line."
)
@click.argument("category", required=False)
def bash_completion(category: str | None) -> None:
    chosen = (
        cellkeeper.get_command(click.get_current_context(), category) if category else cellkeeper
    )
    listed = chosen.commands.values() if isinstance(chosen, Category) else ()
    put(" ".join(sorted(one.name or "" for one in listed if category or isinstance(one, Category))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end the process with the command's exit code."""
    watch.begin()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the end of the process
        # What a terminal's encoding does not have is shown by its number.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    code = run(list(sys.argv[1:] if arguments is None else arguments))
    flush_output()
    if error := lost_output():
        say(f"The output could not be written: {error.strerror}")
        code = UNEXPECTED
    flush_messages()
    watch.end()
    # Nobody needs what the interpreter would look for at its end, for a tenth of a second.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command line.

    :returns: the exit code. Every error is one line on standard error, with ``-f json`` a document
        on standard output as well; its traceback only with ``--debug``
    """
    begin_printing()
    code = execute(arguments)
    if code and not printed.results and _wants_json(arguments):
        put_error(code)
    return code


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, understood or not."""
    text = f" {' '.join(arguments)} "
    return re.search(r" (-f ?|--format[ =])json ", text) is not None


def execute(arguments: Sequence[str], ready: Mapping[str, Any] = MappingProxyType({})) -> int:
    """Carry out a command line, in any thread. Its errors become lines for standard error.

    :param ready: what was made for the command before, as ``cli.configuration`` and
        ``cli.runs.store`` look for it
    :returns: the exit code
    """
    for number, argument in enumerate(arguments, 1):
        if not _is_utf8(argument):  # which may be a URL with a password: it is not repeated
            say(f"cellkeeper: Argument {number} is no UTF-8. Try: cellkeeper --help")
            return USAGE
    given: dict[str, Any] = dict(ready)
    stderr = sys.stderr
    try:
        return int(
            cellkeeper.main(list(arguments), "cellkeeper", standalone_mode=False, obj=given) or 0
        )
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "cellkeeper"
        say(f"{command}: {_folded(error)} Try: {command} --help")
        return error.exit_code
    except SystemExit as end:
        # Click's own way out when whoever reads our output went away: it replaces the streams.
        return 0 if sys.stderr is not stderr else int(end.code or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        say(_folded(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say(INTERRUPTED)
        return EXIT_INTERRUPTED
    except Exception as error:
        # Where Click could not print a help, the line about the output says so at the end.
        is_lost_output = isinstance(error, OSError) and not flush_output()
        if not is_lost_output:
            report(error, given.get("words", []))
        return int(given.get(code_name(error), UNEXPECTED))


def code_name(error: Exception) -> str:
    """Which of a command's exit codes an error leads to."""
    from cli.errors import is_misconfiguration

    return "misconfigured" if is_misconfiguration(error) else "unexpected"


def _is_utf8(argument: str) -> bool:
    """Whether an argument was; Python keeps other bytes as halves of characters, which no database
    takes.
    """
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _folded(error: click.ClickException) -> str:
    """What Click says, which may have several lines, in one."""
    return " ".join(error.format_message().split())


def report(error: Exception, options: Sequence[str]) -> None:
    """Say in one line what went wrong; more where the global options ask for it."""
    from cli.errors import one_line

    say(one_line(error))
    if "--post-mortem" in options:
        import pdb  # noqa: T100 - what the option is for

        watch.hand_over()
        pdb.post_mortem(error.__traceback__)
    elif [word for word in options if word in ("--debug", "--nodebug")][-1:] == ["--debug"]:
        import traceback

        say(Lines("".join(traceback.format_exception(error)).rstrip("\n")))


if __name__ == "__main__":
    main()
