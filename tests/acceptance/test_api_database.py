"""An API database that cannot be used: exit code 3 of archive, 4 of purge, in one line without a
secret.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.support.command import Ended, call, call_all
from tests.support.realcloud import RealCloud
from tests.support.services import MariaDB, free_port

COMMANDS: Final = {
    "db archive_deleted_rows": 3,
    "db purge --all --all-cells --verbose": 4,
    "db archive_deleted_rows --all-cells --until-complete --verbose --dry-run -f json": 3,
    "db purge --before 2026-08-01 --all-cells --dry-run": 4,
}
ARCHIVE, PURGE, *_ = COMMANDS
LOGIN: Final = f"nova:{MariaDB.PASSWORD}"


@pytest.fixture
def config(untouched: RealCloud, tmp_path: Path) -> Path:
    """A nova.conf of its own for each test; the databases are the same for all."""
    return untouched.config(tmp_path)


def assert_all_say(ended: dict[str, Ended], *words: str) -> None:
    """All commands end with their code for it, no result on standard output, and the same line with
    these words.
    """
    for command, one in ended.items():
        assert one.code == COMMANDS[command], command
        if "json" in command:
            assert one.document == {"exit_code": one.code, "messages": [one.line]}
        else:
            assert one.out == "", command
    (line,) = {one.line for one in ended.values()}
    assert all(word in line for word in words), line


def test_it_is_not_configured(untouched: RealCloud, config: Path) -> None:
    """PUR-2"""
    before = untouched.checksums()
    config.write_text(config.read_text().partition("[api_database]")[0])
    ended = dict(zip(COMMANDS, call_all(COMMANDS, config=config), strict=True))
    assert_all_say(ended, "set connection in section [api_database] of nova.conf")
    assert untouched.checksums() == before


@pytest.fixture
def urls(untouched: RealCloud, silent_port: int) -> dict[str, str]:
    """URLs of API databases that cannot be used."""
    place = f"127.0.0.1:{untouched.server.port}"
    return {
        "refused": f"mysql+pymysql://{LOGIN}@127.0.0.1:{free_port()}/nova_api",
        "silent": f"mysql+pymysql://{LOGIN}@127.0.0.1:{silent_port}/nova_api",
        "unknown host": f"mysql+pymysql://{LOGIN}@nova.invalid/nova_api",
        "unknown database": f"mysql+pymysql://{LOGIN}@{place}/nova_api9",
        "wrong password": f"mysql+pymysql://{LOGIN}-not@{place}/nova_api",
        "a cell's database": f"mysql+pymysql://{LOGIN}@{place}/nova_cell1",
        "no URL": f"{LOGIN}@{place}/nova_api",
        "no file": f"sqlite:////nonexistent/{MariaDB.PASSWORD[:4]}.db",
        "unknown driver": f"mysql+nova://{LOGIN}@{place}/nova_api",
        "unknown option": f"mysql+pymysql://{LOGIN}@{place}/nova_api?nova=1",
        "unknown charset": f"mysql+pymysql://{LOGIN}@{place}/nova_api?charset=nova",
        "odd host": f"mysql+pymysql://{LOGIN}@nova..invalid/nova_api",
        "no certificate": f"mysql+pymysql://{LOGIN}@{place}/nova_api?ssl_ca=/nonexistent/ca.pem",
    }


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("refused", "Connection refused"),
        ("silent", "does not answer within 0.3 s"),
        ("unknown database", "Unknown database 'nova_api9'"),
        ("wrong password", "Access denied for user 'nova'"),
        ("a cell's database", "cell_mappings"),
        ("no URL", "its URL cannot be used"),
    ],
)
def test_it_cannot_be_used(config: Path, urls: dict[str, str], case: str, words: str) -> None:
    """ARC-3"""
    limit = "0.3" if case == "silent" else "60"
    env = {"OS_API_DATABASE__CONNECTION": urls[case], "OS_CELLKEEPER__CONNECT_TIMEOUT": limit}
    archive, purge = call_all((ARCHIVE, PURGE), config=config, env=env)
    assert_all_say({ARCHIVE: archive, PURGE: purge}, "API database", words)


@pytest.mark.parametrize(
    "case",
    [
        *(
            "unknown host",
            "no file",
            "unknown driver",
            "unknown option",
            "odd host",
            "no certificate",
        ),
        "unknown charset",
    ],
)
def test_its_url_cannot_be_right(config: Path, urls: dict[str, str], case: str) -> None:
    ended = call(ARCHIVE, config=config, env={"OS_API_DATABASE__CONNECTION": urls[case]})
    assert (ended.code, ended.out) == (3, "")
    assert "API database" in ended.line
