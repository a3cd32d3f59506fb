"""Values that cannot be used: the option is named, no value is repeated, not even with --debug."""

import traceback
from pathlib import Path
from typing import Final

import pytest
from oslo_config import cfg

from cli.errors import one_line
from settings.configuration import UNKNOWN_REFERENCE, Configuration
from settings.errors import InvalidSetting
from settings.files import load_configuration
from settings.sections import SECTIONS, check_values

SECRET: Final = "s3cret"
HUGE: Final = "1" + "0" * 20
TOKENS: Final = (SECRET, SECRET.upper(), "S3cr")

VALUES: Final = {
    "a password with a dollar sign": (
        f"[database]\nconnection = mysql://nova:pa${SECRET}@db1/nova",
        f"connection in section [database]: {UNKNOWN_REFERENCE}",
    ),
    "a password with a dollar sign and braces": (
        f"[database]\nconnection = mysql://nova:pa${{{SECRET}}}@db1/nova",
        f"connection in section [database]: {UNKNOWN_REFERENCE}",
    ),
    "of an unknown section": (
        f"[api_database]\nconnection = mysql://nova:pa${SECRET}.x@db1/nova",
        f"connection in section [api_database]: {UNKNOWN_REFERENCE}",
    ),
    "of an option that a section does not have": (
        f"[database]\nconnection = mysql://nova:pa$celery.{SECRET}@db1/nova",
        f"connection in section [database]: {UNKNOWN_REFERENCE}",
    ),
    "of a section as a whole": (
        f"[database]\nconnection = mysql://nova:{SECRET}$celery@db1/nova",
        f"connection in section [database]: {UNKNOWN_REFERENCE}",
    ),
    "of itself": (
        f"[database]\nconnection = mysql://nova:{SECRET}$connection@db1/nova",
        "connection in section [database]: it refers to itself; write $$ for a dollar sign",
    ),
    "in DEFAULT": (
        f"[DEFAULT]\ntransport_url = rabbit://nova:pa${SECRET}@mq/",
        f"transport_url in section [DEFAULT]: {UNKNOWN_REFERENCE}",
    ),
    "of an option that cannot be used itself": (
        "[database]\nconnection = mysql://nova:$transport_url@db1/nova\n"
        f"[DEFAULT]\ntransport_url = ${SECRET}",
        f"transport_url in section [DEFAULT]: {UNKNOWN_REFERENCE}",
    ),
    "no Redis": (
        f"[celery]\nbroker_url = kafka://:{SECRET}@mq:9092/",
        "broker_url in section [celery]: it must be redis://[:PASSWORD@]HOST:PORT/DB",
    ),
    **{
        f"{option} = {value[:4]}": (
            f"[celery]\n{option} = {value}",
            f"{option} in section [celery]: it takes a {kind}, at most 2147483647",
        )
        for option, value, kind in (
            ("expires", HUGE, "whole number, at least 3600"),
            ("history_days", HUGE, "whole number, at least 1"),
            ("lease_seconds", "nan", "number, at least 1.0"),
            ("lease_seconds", "inf", "number, at least 1.0"),
            ("hang_seconds", "nan", "number, at least 1.0"),
            ("hang_seconds", "1e300", "number, at least 1.0"),
            ("hang_seconds", HUGE, "number, at least 1.0"),
        )
    },
    "no whole number": (
        f"[cellkeeper]\nconcurrency = {SECRET}",
        "concurrency in section [cellkeeper]: it takes a whole number, at least 1",
    ),
    "too small a number": (
        "[cellkeeper]\nconcurrency = -31415",
        "concurrency in section [cellkeeper]: it takes a whole number, at least 1",
    ),
    "no number": (
        f"[cellkeeper]\nread_timeout = {SECRET}",
        "read_timeout in section [cellkeeper]: it takes a number, at least 1.0",
    ),
    "no port": (
        f"[flower]\nport = {SECRET}",
        "port in section [flower]: it takes a whole number, at least 0, at most 65535",
    ),
    "neither true nor false": (
        f"[cellkeeper]\nexclusion = {SECRET}",
        "exclusion in section [cellkeeper]: it takes true or false",
    ),
    "an option of logging": (
        f"[DEFAULT]\ndebug = {SECRET}",
        "debug in section [DEFAULT]: it takes true or false",
    ),
    "a file of logging": (
        f"[DEFAULT]\nlog_file = ${SECRET}",
        f"log_file in section [DEFAULT]: {UNKNOWN_REFERENCE}",
    ),
    "a line without an assignment": (
        f"[database]\n{SECRET}",
        "nova.conf:2: No ':' or '=' found in assignment",
    ),
    "a line with a quote": (
        f"[database]\n{SECRET}'s",
        "nova.conf:2: No ':' or '=' found in assignment",
    ),
    "a line that goes on": (
        f"[database]\n  {SECRET}'",
        "nova.conf:2: Unexpected continuation line",
    ),
    "half a section": (f"[{SECRET}'", "nova.conf:1: Invalid section (must end with ])"),
    "a line without a section": (
        f"password = {SECRET}",
        "nova.conf:1: Section must be started before assignment",
    ),
    "a line without a key": (f"[database]\n= {SECRET}", "nova.conf:2: Key cannot be empty"),
}  # fmt: skip


def read(file: Path) -> None:
    check_values(load_configuration(["--config-file", str(file)]))


@pytest.mark.parametrize(("text", "words"), VALUES.values(), ids=VALUES)
def test_a_value_that_cannot_be_used_is_named_and_not_repeated(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "nova.conf"
    file.write_text(text + "\n")
    with pytest.raises(InvalidSetting) as problem:
        read(file)
    line = one_line(problem.value)
    assert line.startswith("The configuration cannot be used: ")
    assert words in line
    shown = line + "".join(traceback.format_exception(problem.value))
    assert not [token for token in (*TOKENS, "-31415") if token in shown]


@pytest.mark.parametrize(
    "option", [("database", "connection"), ("cellkeeper", "concurrency"), ("celery", "store_url")]
)
def test_a_variable_of_the_environment_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: tuple[str, str]
) -> None:
    section, name = option
    monkeypatch.setenv(f"OS_{section.upper()}__{name.upper()}", f"mysql://nova:pa${SECRET}@db1/")
    (tmp_path / "nova.conf").touch()
    with pytest.raises(InvalidSetting, match=rf"^{name} in section \[{section}\]: ") as problem:
        read(tmp_path / "nova.conf")
    assert SECRET not in "".join(traceback.format_exception(problem.value))


def test_every_option_of_ours_is_named_where_a_reference_leads_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    options = [(section.name, option) for section in SECTIONS for option in section.options]
    assert len(options) > 40
    for section, option in options:
        file.write_text(f"[{section}]\n{option.name} = ${SECRET}\n")
        with pytest.raises(InvalidSetting) as problem:
            read(file)
        assert str(problem.value).startswith(f"{option.dest} in section [{section}]: ")
        assert SECRET not in str(problem.value)


def test_a_dollar_sign_that_is_doubled_is_one(tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    file.write_text("[database]\nconnection = mysql://nova:pa$$word@db1/nova\n")
    conf = load_configuration(["--config-file", str(file)])
    assert conf.database.connection == "mysql://nova:pa$word@db1/nova"


def test_an_option_that_nobody_registered_is_still_missing(tmp_path: Path) -> None:
    (tmp_path / "nova.conf").touch()
    conf = load_configuration(["--config-file", str(tmp_path / "nova.conf")])
    with pytest.raises(cfg.NoSuchOptError):
        _ = conf.database.nothing
    assert getattr(conf, "nothing", None) is None


def test_the_choices_of_an_option_are_named(tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    file.write_text(f"[DEFAULT]\ncolour = {SECRET}\n")
    conf = Configuration()
    conf.register_opt(cfg.StrOpt("colour", choices=["red", "green"]))
    conf([], default_config_files=[str(file)])
    with pytest.raises(
        InvalidSetting, match=r"^colour in section \[DEFAULT\]: it takes one of red, green$"
    ):
        _ = conf.colour
