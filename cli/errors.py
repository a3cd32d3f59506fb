"""Errors in words for the operator."""

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
    if isinstance(error, InvalidSetting):
        return f"The configuration cannot be used: {error}"
    if isinstance(error, DatabaseProblem | HypervisorProblem | ServiceProblem | SettingsProblem | UnusableFolder):
        return str(error)
    if isinstance(error, Busy):
        return f"Another run is at work on one of the databases: {error}"
    if isinstance(error, RunDamaged):
        return f"What the store has of run {error} cannot be read; start the command again"
    if isinstance(error, RunGone):
        return f"The store knows no run {error}: it was emptied, or the run has expired"
    if isinstance(error, StoreAway | BrokerAway | TooLate):
        return str(error)
    if isinstance(error, RedisError):
        return f"The store of runs cannot be used: {_folded(error)}"
    if isinstance(error, DBAPIError):
        return f"A database refused a statement: {server_message(error)}"
    if isinstance(error, cfg.ConfigFilesPermissionDeniedError):
        files = ", ".join(error.config_files)
        return f"The configuration cannot be used: this user may not read {files}: run it as one who may"
    if isinstance(error, cfg.ConfigFilesNotFoundError | cfg.ConfigDirNotFoundError):
        return f"The configuration cannot be used: {_folded(error)}"
    if isinstance(error, cfg.Error):  # whose text may repeat a value
        return f"The configuration cannot be used ({type(error).__name__})"
    if isinstance(error, OSError):
        return f"{error.filename or 'The system'}: {error.strerror or error}"
    return f"Unexpected error ({type(error).__name__}); --debug shows where it comes from"


def _folded(error: Exception) -> str:
    """The text of a library, which may have several lines, in one."""
    return " ".join(str(error).split())
