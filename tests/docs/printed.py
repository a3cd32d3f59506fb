"""What README.md, CONTRIBUTING.md and docs/*.md print for a person to copy."""

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
OWN: Final = "cellkeeper"
KEYWORDS: Final = ("#!/bin/sh", "while ", "until ", "for ", "if ", "case ")
ASSIGNMENT: Final = re.compile(r"[A-Z_]+=\S*$")
PROMPT: Final = "$ "
INLINE: Final = re.compile(r"`(cellkeeper [^`]+)`")
OPTIONAL: Final = re.compile(r"\s*\[(-[^\]]*)\]")
SYNOPSIS_GOES_ON: Final = re.compile(r"\s+\[-")
LINK: Final = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
LINK_WITHIN: Final = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A piece of code in a document.

    :ivar line: of its first line, from 1
    """

    file: Path
    line: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Printed:
    """A command as it is printed: a line, or a whole script.

    :ivar code: the exit code that the document shows, or None
    """

    file: Path
    line: int
    text: str
    code: int | None = None

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.text}"

    @property
    def variants(self) -> tuple[str, ...]:
        """Of a synopsis, the command without and with all that stands in brackets; else what is
        printed.
        """
        return tuple(dict.fromkeys((OPTIONAL.sub("", self.text), OPTIONAL.sub(r" \1", self.text))))

    @property
    def words(self) -> list[str]:
        """Its words, without a comment and without assignments before it; of a script, none."""
        words = [] if "\n" in self.text else shlex.split(self.text, comments=True)
        while words and ASSIGNMENT.match(words[0]):
            words.pop(0)
        return words

    @property
    def program(self) -> str:
        return self.words[0] if self.words else "sh"


def blocks(file: Path) -> Iterator[Block]:
    """The code of a document: fenced, or indented by four spaces behind an empty line."""
    begin, found, fence, before = 0, [], "", ""
    for number, line in enumerate([*file.read_text().splitlines(), ""], 1):
        if fence:
            if line.strip() == fence:
                yield Block(file, begin, tuple(found))
                fence, found = "", []
            else:
                found.append(line)
        elif line.startswith("```"):
            fence, begin = "```", number + 1
        elif line.startswith("    ") and (found or not before.strip()):
            begin = begin if found else number
            found.append(line[4:])
        elif found and line.strip():
            yield Block(file, begin, tuple(found))
            found = []
        elif found:
            found.append("")
        before = line
    if found:
        yield Block(file, begin, tuple(found))


def commands(block: Block) -> Iterator[Printed]:
    """The commands of a block, in its order."""
    if any(line.startswith(KEYWORDS) for line in block.lines):
        yield Printed(block.file, block.line, "\n".join(block.lines))
        return
    transcript = any(line.startswith(PROMPT) for line in block.lines)
    whole, begin = "", block.line
    for number, line in enumerate(block.lines):
        begin = begin if whole else block.line + number
        following = block.lines[number + 1 : number + 2]
        if line.endswith("\\") or (following and SYNOPSIS_GOES_ON.match(following[0])):
            whole += line.removesuffix("\\") + " "
            continue
        text, whole = whole + line, ""
        if transcript and not text.startswith(PROMPT):
            continue
        shown = Printed(
            block.file, begin, text.removeprefix(PROMPT), _code(block.lines[number + 1 :])
        )
        if transcript or _is_command(shown):
            yield shown


def _code(following: tuple[str, ...]) -> int | None:
    """The exit code that a transcript shows behind a command."""
    for line, result in pairwise(following):
        if line.startswith(PROMPT):
            return int(result) if line == "$ echo $?" else None
    return None


def _is_command(shown: Printed) -> bool:
    try:
        program = shown.program
    except ValueError:  # an apostrophe: not for a shell
        return False
    if program in ("sh", "[") or (ROOT / program).is_dir():
        return False
    return (
        program == OWN
        or shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is not None
        or program in KNOWN
    )


# Programs that need not be installed where the tests run.
KNOWN: Final = {
    "pipx",
    "docker",
    "sudo",
    "systemctl",
    "nova-manage",
    "make",
    "deploy/compose/new-env",
    "libvirtd",
}


def all_commands(file: Path) -> list[Printed]:
    """The commands of a document."""
    return [shown for block in blocks(file) for shown in commands(block)]
