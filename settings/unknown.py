"""Finds our settings that have no effect: oslo.config ignores misspelt options and sections."""

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
PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# Ratios of difflib: one or two letters of the name of a section may differ, of an option some more.
SECTION_LIKENESS: Final = 0.8
OPTION_LIKENESS: Final = 0.6
# The prefix of the sections of entries.
ENTRY_PREFIX: Final = schedule.entry_section("").name
FOREIGN_SECTIONS: Final = frozenset({"scheduler"})
"""Nova's sections whose names resemble one of ours."""
FOREIGN_OPTIONS: Final = frozenset({"lock_path"})
"""Options of other programs in section DEFAULT that share the name of one of ours."""

SettingsBySection = Mapping[str, Collection[str]]
"""The names of the options that are set, by section."""


@dataclass(frozen=True)
class UnknownSetting:
    """A section or an option that has no effect.

    :ivar place: the file or the environment variable
    :ivar what: the section, or the option with its section
    :ivar advice: what may have been meant
    """

    place: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} is unknown and has no effect: {self.advice}"


def unknown_settings(
    conf: cfg.ConfigOpts, environment: Mapping[str, str] = os.environ
) -> list[UnknownSetting]:
    """All our settings in the files and in the environment that have no effect.

    :param conf: a configuration that has been read
    """
    settings_by_place: dict[str, SettingsBySection] = {
        str(file): _read_names(file) for file in config_files(conf)
    }
    for variable in sorted(environment):
        if match := ENVIRONMENT.fullmatch(variable):
            settings_by_place[variable] = {match[1].lower(): {match[2].lower()}}
    sections: set[str] = set()
    for settings in settings_by_place.values():
        sections.update(settings)
    known = known_options(conf.schedule.enabled, sections)
    unknown: list[UnknownSetting] = []
    for place, settings in settings_by_place.items():
        for what, advice in find_unknown(settings, known):
            unknown.append(UnknownSetting(place, what, advice))
    return unknown


def config_files(conf: cfg.ConfigOpts) -> list[Path]:
    """The files that were read: those given, and those in the folders given."""
    files = [Path(file).expanduser() for file in conf.config_file or ()]
    for folder in conf.config_dir or ():
        files += sorted(Path(folder).expanduser().glob("*.conf"))
    return files


def _read_names(file: Path) -> dict[str, set[str]]:
    """The names of the options that a file sets, by section.

    Empty for anything else than a regular file: a pipe cannot be read twice.
    """
    if not file.is_file():
        return {}
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(str(file), sections).parse()
    names: dict[str, set[str]] = {}
    for section, options in sections.items():
        # oslo.config ignores case in sections, and not in options.
        names.setdefault(section.lower(), set()).update(options)
    return names


def known_options(enabled: Collection[str], sections: Collection[str]) -> dict[str, list[str]]:
    """Our options, by section.

    :param enabled: the names of the entries of the schedule that are started
    :param sections: all sections that are present: one named like an entry is taken for an entry
        that is off, unless it resembles an enabled entry that lacks its section
    """
    options: dict[str, list[str]] = {}
    for section in SECTIONS:
        if not section.in_nova_conf:
            options[section.name] = [option.dest for option in section.options]
    enabled_sections = [f"{ENTRY_PREFIX}{name}".lower() for name in enabled]
    missing_sections = [name for name in enabled_sections if name not in sections]
    disabled_sections = [
        name
        for name in sections
        if name.startswith(ENTRY_PREFIX) and not _nearest(name, missing_sections, SECTION_LIKENESS)
    ]
    entry_options = [option.dest for option in schedule.entry_section("").options]
    return options | dict.fromkeys((*enabled_sections, *disabled_sections), entry_options)


def find_unknown(
    settings: SettingsBySection, known: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, str]]:
    """The settings that have no effect, each with what may have been meant.

    :param settings: of one place, with the names of sections in lower case
    :param known: our options, by section; other sections are not ours to judge
    """
    for section, options in settings.items():
        if section in known:
            for option in sorted(set(options) - set(known[section])):
                yield _describe_option(section, option), _advise(section, option, known)
        elif section == "default":
            for option, home in _misplaced_options(options, known):
                yield _describe_option("DEFAULT", option), f"it belongs in section [{home}]"
        elif section not in FOREIGN_SECTIONS and (
            similar := _nearest(section, known, SECTION_LIKENESS)
        ):
            yield f"section [{_safe_name(section)}]", f"did you mean [{similar}]?"


def _misplaced_options(
    options: Collection[str], known: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, str]]:
    """Our options in section DEFAULT, each with the section it belongs in."""
    for home in ("cellkeeper", "celery"):
        for option in sorted(set(options) & set(known[home]) - FOREIGN_OPTIONS):
            yield option, home


def _advise(section: str, option: str, known: Mapping[str, Collection[str]]) -> str:
    for home, options in known.items():
        if option in options:
            return f"it belongs in section [{home}]"
    if similar := _nearest(option, known[section], OPTION_LIKENESS):
        return f"did you mean {similar}?"
    if section.startswith(ENTRY_PREFIX):
        return "an entry has cron and command; options of the command belong in its command line"
    return "see the example configuration for all options"


def _describe_option(section: str, option: str) -> str:
    return f"{_safe_name(option)} in section [{_safe_name(section)}]"


def _safe_name(name: str) -> str:
    """A name as it may be printed: anything else may be part of a value, and hold a password."""
    return name if PLAIN_NAME.fullmatch(name) else "(not a plain name)"


def _nearest(name: str, candidates: Collection[str], likeness: float) -> str | None:
    matches = difflib.get_close_matches(name.lower(), candidates, 1, likeness)
    return matches[0] if matches else None
