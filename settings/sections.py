"""The table of all sections whose options are registered when the configuration is read."""

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
"""Missing are [placement] and [neutron], which are registered when they are first used
(``settings.services``), and the sections of other entries, registered when the schedule is read.
"""


def register_sections(conf: cfg.ConfigOpts) -> None:
    """Register the options of the table."""
    for section in SECTIONS:
        section.register(conf)


def check_values(conf: cfg.ConfigOpts) -> None:
    """Check every value, used or not; by itself, oslo.config checks values when they are used.

    :raises InvalidSetting: a value cannot be used
    """
    for section in SECTIONS:
        values = conf if section.name == "DEFAULT" else conf[section.name]
        for option in section.options:
            values[option.dest]
