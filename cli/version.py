"""The version of the program."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

STOCK_TOOL: Final = "nova-manage"
STOCK_VERSION: Final = "34.0.0"
"""The release of Nova whose commands are offered here, which scripts are told that call the program
by its name.
"""


def reported_version() -> str:
    """What ``--version`` prints: as the configuration says, since scripts compare it with releases
    of Nova.

    A configuration that cannot be read is passed over: a version can always be told.
    """
    from oslo_config import cfg

    from cli import configuration
    from settings.errors import SettingsProblem

    try:
        configured: str | None = configuration.read().cellkeeper.reported_version
    except (SettingsProblem, cfg.Error, OSError, ValueError):
        configured = None
    if configured:
        return configured
    return STOCK_VERSION if Path(sys.argv[0]).name == STOCK_TOOL else own_version()


def own_version() -> str:
    """The version that is installed."""
    return installed_version("cellkeeper")
