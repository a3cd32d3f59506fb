"""The table of all sections whose options are known as soon as the configuration is read."""

from typing import Final

from oslo_config import cfg

from settings import celery, cellkeeper, databases, flower, nova, schedule, throttle
from settings.section import Section

SECTIONS: Final[tuple[Section, ...]] = (
    nova.DEFAULT,
    databases.DATABASE,
    databases.API_DATABASE,
    nova.LIBVIRT,
    cellkeeper.SECTION,
    throttle.SECTION,
    celery.SECTION,
    flower.SECTION,
    schedule.SECTION,
    *(schedule.entry_section(name) for name in schedule.DEFAULTS),
)
"""[placement] and [neutron] are made known by who uses them (``settings.services``), and the section of an entry of the
schedule by who reads the entry."""


def register_sections(conf: cfg.ConfigOpts) -> None:
    """Make the options of the table known to a configuration."""
    for section in SECTIONS:
        section.register(conf)


def check_values(conf: cfg.ConfigOpts) -> None:
    """Look at every value, used or not, as oslo does only when one is asked for.

    :raises InvalidSetting: one cannot be used
    """
    for section in SECTIONS:
        values = conf if section.name == "DEFAULT" else conf[section.name]
        for option in section.options:
            values[option.dest]
