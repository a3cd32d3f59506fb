"""Reads the files of the configuration."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Final

from oslo_config import cfg
from oslo_log import log

from settings.configuration import Configuration
from settings.errors import InvalidSetting
from settings.log_handlers import guard_handlers
from settings.logs import reach_journal, shorten_warnings
from settings.sections import register_sections

PROGRAM: Final = "cellkeeper"


def load_configuration(
    arguments: Sequence[str], overrides: Mapping[str, Any] = MappingProxyType({})
) -> cfg.ConfigOpts:
    """Read the configuration, and set up logging.

    Logs go to standard error unless the configuration says otherwise: standard output is for
    results.

    :param arguments: global options of the command line
    :param overrides: options of section DEFAULT that were given elsewhere than oslo.config looks;
        unknown ones are ignored
    :raises InvalidSetting: a file or a value cannot be understood
    :raises cfg.Error: a file is missing
    """
    conf = read_configuration(arguments)
    for name, value in overrides.items():
        if name in conf:
            conf.set_override(name, value)
    reach_journal(conf)
    if conf.log_file or conf.log_dir or conf.use_journal or conf.use_syslog:
        conf.set_default("use_stderr", False)
    try:
        log.setup(conf, PROGRAM)
    except (log.LogConfigError, UnicodeDecodeError) as error:
        raise InvalidSetting(
            "log_config_append: its file is missing, or is not a configuration of logging"
        ) from error
    shorten_warnings(conf)
    guard_handlers()
    return conf


def read_configuration(arguments: Sequence[str]) -> cfg.ConfigOpts:
    """Read the configuration: the stock tool's files and folders, and ``cellkeeper.conf``.

    :param arguments: global options of the command line
    :raises InvalidSetting: a file or a value cannot be understood
    :raises cfg.Error: a file is missing
    """
    conf = Configuration()
    log.register_options(conf)
    conf.set_default("use_stderr", True)
    register_sections(conf)
    try:
        conf(
            list(arguments),
            project="nova",
            prog=PROGRAM,
            version=version(PROGRAM),
            default_config_files=_find_for_both_programs(cfg.find_config_files),
            default_config_dirs=_find_for_both_programs(cfg.find_config_dirs),
        )
    except cfg.ConfigFileParseError as error:
        raise InvalidSetting(_describe_parse_error(error)) from None
    except UnicodeDecodeError as error:
        raise InvalidSetting("one of its files is not text in UTF-8") from error
    return conf


def _describe_parse_error(error: cfg.ConfigFileParseError) -> str:
    """Where a file cannot be parsed, and why. The line is not shown: it may hold a password."""
    cause = error.__context__
    if isinstance(cause, cfg.ParseError):
        return f"{cause.filename}:{cause.lineno}: {cause.msg}"
    return str(error.config_file)


def _find_for_both_programs(find: Callable[..., list[str]]) -> list[str]:
    """The places of the stock tool's configuration, then the other places of this program's."""
    stock_places = find(project="nova", prog="nova-manage")
    own_places = find(project="nova", prog=PROGRAM)
    return list(dict.fromkeys([*stock_places, *own_places]))
