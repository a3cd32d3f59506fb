"""What the example configuration files are made of, for ``oslo-config-generator``; see ``make config``."""

from collections.abc import Iterator
from typing import Any, Final

from oslo_config import cfg

from cli.db import online_data_migrations
from clients import services
from novadb import settings
from schedules import options as schedule
from workers import options

REGISTER: Final = (
    settings.register,
    online_data_migrations.register,
    services.register_all,
    options.register_flower,
    schedule.register,
)
# The sections that stand in nova.conf, because Nova reads them, too.
NOVAS: Final = frozenset({"DEFAULT", "database", "api_database", "libvirt", "neutron", "placement"})

Section = tuple[cfg.OptGroup, list[Any]]


class _Known(cfg.ConfigOpts):
    """A configuration that remembers what was made known, in this order."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {}
        super().__init__()
        self.sections.clear()  # what every program has

    def register_opt(self, opt: Any, group: Any = None, cli: bool = False, **caching: Any) -> bool:
        section = self._section(getattr(group, "name", group) or "DEFAULT")
        is_new = bool(super().register_opt(opt, group, cli, **caching))
        if opt not in section[1]:  # an OptGroup remembers options itself, beyond this configuration
            section[1].append(opt)
        return is_new

    def register_group(self, group: cfg.OptGroup) -> None:
        super().register_group(group)
        self.sections.setdefault(group.name, (group, []))

    def _section(self, name: str) -> Section:
        return self.sections.setdefault(name, (cfg.OptGroup(name), []))


def own_options() -> list[Section]:
    """The sections of cellkeeper.conf."""
    return [section for section in _sections() if section[0].name not in NOVAS]


def nova_options() -> list[Section]:
    """What is read of nova.conf, but for the options of logging: those are listed by oslo.log."""
    return [section for section in _sections() if section[0].name in NOVAS]


def _sections() -> Iterator[Section]:
    known = _Known()
    for register in REGISTER:
        register(known)
    yield from known.sections.values()
