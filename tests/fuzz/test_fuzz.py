"""Whatever is configured and typed: one line, a documented code, in time; never an error that
nobody thought of.

A case is a random configuration with a random command line. ``CELLKEEPER_FUZZ_SEED`` repeats a
campaign, and ``CELLKEEPER_FUZZ_CASES`` says how long it is.
"""

import os
import random
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import pytest

from cli.main import cellkeeper
from settings.sections import SECTIONS
from tests.support.command import PROGRAM, environment
from tests.support.realcloud import RealCloud

SEED: Final = int(os.environ.get("CELLKEEPER_FUZZ_SEED", "1"))
CASES: Final = int(os.environ.get("CELLKEEPER_FUZZ_CASES", "150"))
SHARES: Final = 10
PATIENCE: Final = 120.0  # seconds for a command that a loaded machine holds up
# They run until a signal ends them, or wait for hosts.
ENDLESS: Final = {"worker", "beat", "flower", "metrics"}
SECRET: Final = "fuzz-secret"
ODD_VALUES: Final = (
    "", "0", "-1", "nan", "inf", "1e308", "99999999999999999999", "true", "None", "$nothing", f"${{{SECRET}", "%s",
    "{0}", "ü", "\u202e", "a\tb", "'", '"', "\\", "/", "/dev/null", "/dev/full", "/nonexistent/x", ".", "~", ";", "*",
    "--", "-h", f"mysql+pymysql://u:{SECRET}@127.0.0.1:1/x", "mysql://", "mysql://[", "sqlite://",
    "sqlite:////nonexistent/x", f"postgresql://u:{SECRET}@h/x", "redis://", "redis://127.0.0.1:1",
    "amqp://127.0.0.1:1", "rabbit://h:x/", "none:///", "{scheme}://{username}:{password}@{hostname}/x",
    "{password:>100000000}", "{password!r}", "{0.__class__}", "00000000-0000-0000-0000-000000000000", "2026-01-01",
    "13/13/13", "90d", "25:99", "A" * 5000,
)  # fmt: skip
DOCUMENTED: Final = {*range(11), 78, 127, 130, 255}
UNEXPECTED: Final = ("Unexpected error", "Traceback (most recent call last)")


@dataclass(frozen=True)
class Case:
    """A configuration and a command line.

    :ivar settings: section, option and value
    """

    settings: tuple[tuple[str, str, str], ...]
    words: tuple[str, ...]


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands with the words that name them."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif name not in ENDLESS:
            yield (*path, name), command


COMMANDS: Final = list(commands(cellkeeper))
OPTIONS: Final = [(section.name, option.dest) for section in SECTIONS for option in section.options]


def case(dice: random.Random) -> Case:
    """A case by the dice: a few settings that are odd, and a command with some of its options."""
    settings = tuple(
        (*dice.choice(OPTIONS), dice.choice(ODD_VALUES)) for _ in range(dice.randint(0, 3))
    )
    path, command = dice.choice(COMMANDS)
    words: list[str] = []
    params: list[Any] = [param for param in command.params if not getattr(param, "hidden", False)]
    for param in params:
        if isinstance(param, click.Argument):
            words += [dice.choice(ODD_VALUES) for _ in range(dice.randint(0, 2))]
        elif dice.random() < 0.35:
            words.append(param.opts[-1])
            if not param.is_flag:
                words.append(dice.choice(ODD_VALUES))
    return Case(settings, (*path, *words))


def config_of(case: Case, usual: str, folder: Path) -> Path:
    """The usual configuration with what is odd behind it: what stands last counts."""
    file = folder / "nova.conf"
    odd = "".join(f"[{section}]\n{option} = {value}\n" for section, option, value in case.settings)
    file.write_text(f"{usual}\n{odd}")
    return file


def carry_out(case: Case, config: Path) -> "subprocess.CompletedProcess[str]":
    words = [str(PROGRAM), "--config-file", str(config), *case.words]
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PATIENCE,
        env=environment({"COLUMNS": "200"}), cwd=config.parent, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("share", range(SHARES))
def test_nothing_is_an_unexpected_error(share: int, realcloud: RealCloud, tmp_path: Path) -> None:
    usual = realcloud.config(tmp_path).read_text()
    on_sqlite = usual.replace(realcloud.url(realcloud.api), f"sqlite:///{tmp_path}/api.sqlite")
    for number in range(share, CASES, SHARES):
        dice = random.Random(f"{SEED} {number}")
        chosen = case(dice)
        ended = carry_out(chosen, config_of(chosen, dice.choice((usual, on_sqlite)), tmp_path))
        told = (
            f"seed {SEED}, case {number}: {chosen.settings}: "
            f"{shlex.join(chosen.words)}\n{ended.stderr[-2000:]}"
        )
        assert not any(words in ended.stderr for words in UNEXPECTED), told
        assert ended.returncode in DOCUMENTED, told
        if SECRET not in " ".join(chosen.words):  # what was typed may be repeated
            assert SECRET not in ended.stderr + ended.stdout, told
