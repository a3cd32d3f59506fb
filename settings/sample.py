"""The example configuration files, for ``oslo-config-generator``; see ``make config``."""

from oslo_config import cfg

from settings.section import Section
from settings.sections import SECTIONS
from settings.services import SERVICE_TYPES, service_section

SectionOptions = tuple[cfg.OptGroup, list[cfg.Opt]]


def own_options() -> list[SectionOptions]:
    """The sections of cellkeeper.conf."""
    return [_as_listed(section) for section in SECTIONS if not section.in_nova_conf]


def nova_options() -> list[SectionOptions]:
    """The sections of nova.conf, without the options of logging: oslo.log lists those."""
    sections = [section for section in SECTIONS if section.in_nova_conf]
    sections += [service_section(name) for name in SERVICE_TYPES]
    return [_as_listed(section) for section in sections]


def _as_listed(section: Section) -> SectionOptions:
    return section.group, list(section.options)
