"""``python -m demo [FOLDER]``: make a small cloud of SQLite files and let cellkeeper archive and
purge it.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from demo import tally
from demo.cloud import ForeignFolder, build

PROGRAM: Final = Path(sys.executable).with_name("cellkeeper")
# oslo.config takes OS_GROUP__OPTION from the environment before it looks into nova.conf.
OVERRIDE: Final = re.compile(r"OS_\w+__\w+")

ARCHIVE_CODES: Final = {
    0: "nothing was archived",
    1: "rows were archived: success, as nova-manage says it",
}
PURGE_CODES: Final = {0: "rows were deleted from the shadow tables", 3: "nothing was purged"}

# Flushed at once, so that it stays in order with what the program prints.
say = partial(print, flush=True)


@dataclass(frozen=True)
class Step:
    """One command of the demo.

    :ivar why: what it is there to show
    :ivar command: behind ``cellkeeper --config-file FILE``
    :ivar expected: the documented exit code
    :ivar codes: what each code means
    """

    why: str
    command: str
    expected: int
    codes: dict[int, str]


OPENING: Final = """\
This is a cloud with an API database, cell0 and three cells. Half of its instances were deleted
during the last 200 days. It is made of SQLite files in {folder}; nothing else is touched.
cellkeeper will now archive the deleted rows, which moves them into the shadow tables, and then
purge the oldest ones from there.

The rows at the start (the actions of deleted instances count as live: Nova does not mark them as
deleted, and they are archived with their instance):
"""

STEPS: Final = (
    Step(
        "What would an archive move? A dry run only counts.",
        "db archive_deleted_rows --all-cells --dry-run",
        0,
        ARCHIVE_CODES,
    ),
    Step(
        "Move all deleted instances, with everything that belongs to them, in all cells at the "
        "same time.\n"
        "One of them, in cell2, still has a share: it is left where it is, and reported.",
        "db archive_deleted_rows --all-cells --until-complete --verbose",
        1,
        ARCHIVE_CODES,
    ),
    Step(
        "The same again: nothing is left but the instance with the share.",
        "db archive_deleted_rows --all-cells --until-complete --verbose",
        0,
        ARCHIVE_CODES,
    ),
    Step(
        "Delete from the shadow tables what was deleted more than 90 days ago.",
        "db purge --all-cells --before 90d --verbose",
        0,
        PURGE_CODES,
    ),
)

TO_TRY: Final = (
    ("what is left to purge, as JSON", "db purge --all --all-cells --dry-run -f json"),
    ("empty the shadow tables", "db purge --all --all-cells --verbose"),
    (
        "archive the log of periodic tasks",
        "db archive_deleted_rows --all-cells --task-log --until-complete --verbose",
    ),
    ("all options of a command", "db archive_deleted_rows --help"),
)


def main(arguments: Sequence[str] | None = None, program: Path = PROGRAM) -> int:
    """Run the demo.

    :param arguments: the folder to make; without it ``demo-cloud`` in the current folder
    :returns: 0 when each command ended with its documented exit code, else 1
    """
    parser = argparse.ArgumentParser(
        "python -m demo", description="Archive and purge a small cloud of SQLite files."
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("demo-cloud"), help="default: %(default)s"
    )
    folder: Path = parser.parse_args(arguments).folder
    problem = _obstacle(program)
    if problem is None:
        try:
            return _play(folder, build(folder), program)
        except ForeignFolder as error:
            problem = str(error)
    print(problem, file=sys.stderr)
    return 1


def _obstacle(program: Path) -> str | None:
    """What keeps the demo from running; most of all, what would make it work on other databases
    than its own.
    """
    overrides = sorted(name for name in os.environ if OVERRIDE.fullmatch(name))
    if overrides:
        return (
            "These variables go before the demo's nova.conf, unset them first: "
            f"{', '.join(overrides)}"
        )
    if not program.is_file():
        return f"{program} is missing: install cellkeeper for this Python first (pip install -e .)"
    return None


def _play(folder: Path, conf: Path, program: Path) -> int:
    say(
        OPENING.format(folder=_short(folder.resolve())),
        tally.as_text(tally.count(folder)),
        sep="\n",
    )
    call = [_short(program), "--config-file", _short(conf)]
    surprises = [surprise for step in STEPS if (surprise := _show(step, call))]
    say(
        "\nThe rows at the end:\n", tally.as_text(tally.count(folder)), "\nTo try next:\n", sep="\n"
    )
    for what, command in TO_TRY:
        say(f"  # {what}\n  {shlex.join(call)} {command}")
    say(
        "\n"
        + "\n".join(
            surprises
            or ["The demo is complete: every command ended with its documented exit code."]
        )
    )
    return int(bool(surprises))


def _show(step: Step, call: Sequence[str]) -> str | None:
    """Run one command before the reader's eyes.

    :returns: what was unexpected about its end
    """
    say(f"\n# {step.why.replace(chr(10), chr(10) + '# ')}\n$ {shlex.join(call)} {step.command}")
    code = subprocess.run([*call, *step.command.split()], check=False).returncode
    say(f"exit code {code}: {step.codes.get(code, 'unexpected')}")
    return (
        None
        if code == step.expected
        else f"UNEXPECTED: exit code {code} instead of {step.expected}: {step.command}"
    )


def _short(path: Path) -> str:
    """A path as one would type it here."""
    return min(os.path.relpath(path), str(path), key=len)


if __name__ == "__main__":
    sys.exit(main())
