"""Errors in words for the operator."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from oslo_config import cfg
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from clients.errors import ServiceProblem
from clients.hypervisor import HypervisorProblem
from novadb.engine import server_message
from novadb.errors import DatabaseProblem
from runs.exclusion import Busy
from runs.lock_folder import UnusableFolder
from runs.store import BrokerAway, RunDamaged, RunGone, StoreAway, TooLate
from settings.errors import InvalidSetting, SettingsProblem


def is_misconfiguration(error: Exception) -> bool:
    """Whether nothing but a change of the configuration can help."""
    return isinstance(error, SettingsProblem | cfg.Error)


def one_line(error: Exception) -> str:
    """An error that ended a command, in one line without secrets."""
    for kinds, describe in SENTENCES:
        if isinstance(error, kinds):
            return describe(error)
    return f"Unexpected error ({type(error).__name__}); --debug shows where it comes from"


def _folded(error: Exception) -> str:
    """The text of a library, which may have several lines, in one."""
    return " ".join(str(error).split())


def _unreadable_files(error: cfg.ConfigFilesPermissionDeniedError) -> str:
    files = ", ".join(error.config_files)
    return f"{UNUSABLE_CONFIGURATION}: this user may not read {files}: run it as one who may"


UNUSABLE_CONFIGURATION: Final = "The configuration cannot be used"
# The first of the kinds that fits counts: some are kinds of those that stand further below.
Kinds = type[Exception] | tuple[type[Exception], ...]
SENTENCES: Final[Sequence[tuple[Kinds, Callable[[Any], str]]]] = (
    (InvalidSetting, lambda error: f"{UNUSABLE_CONFIGURATION}: {error}"),
    ((DatabaseProblem, HypervisorProblem, ServiceProblem, SettingsProblem, UnusableFolder), str),
    (Busy, lambda error: f"Another run is at work on one of the databases: {error}"),
    (
        RunDamaged,
        lambda error: f"What the store has of run {error} cannot be read; start the command again",
    ),
    (
        RunGone,
        lambda error: (
            f"There is no run {error}: the id is misspelt, the run has expired, or the store was "
            "emptied"
        ),
    ),
    ((StoreAway, BrokerAway, TooLate), str),
    (RedisError, lambda error: f"The store of runs cannot be used: {_folded(error)}"),
    (DBAPIError, lambda error: f"A database refused a statement: {server_message(error)}"),
    (cfg.ConfigFilesPermissionDeniedError, _unreadable_files),
    (
        (cfg.ConfigFilesNotFoundError, cfg.ConfigDirNotFoundError),
        lambda error: f"{UNUSABLE_CONFIGURATION}: {_folded(error)}",
    ),
    # Whose text may repeat a value.
    (cfg.Error, lambda error: f"{UNUSABLE_CONFIGURATION} ({type(error).__name__})"),
    (OSError, lambda error: f"{error.filename or 'The system'}: {error.strerror or error}"),
)
