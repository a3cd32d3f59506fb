"""Settings of ours that nobody reads: oslo.config says nothing of a misspelt option or section."""

import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oslo_config import cfg

from settings import schedule
from settings.sections import SECTIONS

ENVIRONMENT: Final = re.compile(r"OS_([A-Z0-9_]*?[A-Z0-9])__(\w+)")
WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
SECTION_LIKENESS: Final = 0.8  # of difflib: one or two letters of a name may differ
OPTION_LIKENESS: Final = 0.6
ENTRY: Final = schedule.entry_section("").name  # what the sections of entries begin with
FOREIGN_SECTIONS: Final = frozenset({"scheduler"})
"""Sections of Nova that resemble one of ours."""
FOREIGN_OPTIONS: Final = frozenset({"lock_path"})
"""Options of the section DEFAULT of other programs that have the name of one of ours."""

SettingsBySection = Mapping[str, Collection[str]]
"""The names of the options that are set, by section."""


@dataclass(frozen=True)
class UnknownSetting:
    """A section or an option that has no effect.

    :ivar place: the file, or the variable of the environment
    :ivar what: the section, or the option with its section
    :ivar advice: what may have been meant
    """

    place: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} is unknown and has no effect: {self.advice}"


def unknown_settings(conf: cfg.ConfigOpts, environment: Mapping[str, str] = os.environ) -> list[UnknownSetting]:
    """All settings of ours, in the files and in the environment, that have no effect.

    :param conf: that has been read
    """
    by_place = {str(file): _written(file) for file in config_files(conf)}
    for variable in sorted(environment):
        if match := ENVIRONMENT.fullmatch(variable):
            by_place[variable] = {match[1].lower(): {match[2].lower()}}
    sections = {name for written in by_place.values() for name in written}
    known = known_options(conf.schedule.enabled, sections)
    return [
        UnknownSetting(place, what, advice)
        for place, written in by_place.items()
        for what, advice in find_unknown(written, known)
    ]


def config_files(conf: cfg.ConfigOpts) -> list[Path]:
    """The files that were read: those named, and those in the folders named."""
    files = [Path(file).expanduser() for file in conf.config_file or ()]
    for folder in conf.config_dir or ():
        files += sorted(Path(folder).expanduser().glob("*.conf"))
    return files


def _written(file: Path) -> dict[str, set[str]]:
    """The options that a file sets, by section.

    What is no regular file, such as a pipe, cannot be read twice: it is taken as empty.
    """
    sections: dict[str, dict[str, list[str]]] = {}
    if not file.is_file():
        return {}
    cfg.ConfigParser(str(file), sections).parse()
    written: dict[str, set[str]] = {}
    for section, options in sections.items():
        written.setdefault(section.lower(), set()).update(options)  # oslo folds sections alone
    return written


def known_options(enabled: Collection[str], sections: Collection[str]) -> dict[str, list[str]]:
    """The options of ours by section.

    :param enabled: names of the entries of the schedule that are started
    :param sections: that are there: what is called like an entry is one, which may be off at present
    """
    known = {
        section.name: [option.dest for option in section.options] for section in SECTIONS if not section.in_nova_conf
    }
    entries = [f"{ENTRY}{name}".lower() for name in enabled]
    without_section = [name for name in entries if name not in sections]
    others = [
        section
        for section in sections
        if section.startswith(ENTRY) and not _nearest(section, without_section, SECTION_LIKENESS)
    ]
    entry_options = [option.dest for option in schedule.entry_section("").options]
    return known | dict.fromkeys((*entries, *others), entry_options)


def find_unknown(written: SettingsBySection, known: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str]]:
    """The settings that have no effect, each with what may have been meant.

    :param written: what one place sets, the names of the sections in lower case
    :param known: the options of ours by section; other sections are not ours to judge
    """
    for section, options in written.items():
        if section in known:
            for option in sorted(set(options) - set(known[section])):
                yield _option(section, option), _advice(section, option, known)
        elif section == "default":
            for option, home in _misplaced(options, known):
                yield _option("DEFAULT", option), f"it belongs into section [{home}]"
        elif section not in FOREIGN_SECTIONS and (near := _nearest(section, known, SECTION_LIKENESS)):
            yield f"section [{_shown(section)}]", f"did you mean [{near}]?"


def _misplaced(options: Collection[str], known: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str]]:
    """The options of DEFAULT that are ours, each with its section."""
    for home in ("cellkeeper", "celery"):
        for option in sorted(set(options) & set(known[home]) - FOREIGN_OPTIONS):
            yield option, home


def _advice(section: str, option: str, known: Mapping[str, Collection[str]]) -> str:
    homes = [name for name, options in known.items() if option in options]
    if homes:
        return f"it belongs into section [{homes[0]}]"
    if near := _nearest(option, known[section], OPTION_LIKENESS):
        return f"did you mean {near}?"
    if section.startswith(ENTRY):
        return "there are cron and command; options of the command stand in its command line"
    return "the example configuration has all there are"


def _option(section: str, option: str) -> str:
    return f"{_shown(option)} in section [{_shown(section)}]"


def _shown(name: str) -> str:
    """A name as it may be printed: what is no word may be a part of some value, and hold a password."""
    return name if WORD.fullmatch(name) else "(a name that is no word)"


def _nearest(name: str, candidates: Collection[str], likeness: float) -> str | None:
    return next(iter(difflib.get_close_matches(name.lower(), candidates, 1, likeness)), None)
