"""Database URLs: templates as Nova fills them, one name for each database, and no secret in any
message.
"""

import logging
import re
from pathlib import Path

import pytest

from jobs.action import Target
from novadb import urls
from novadb.cells import Cell
from novadb.engine import Database
from novadb.errors import DatabaseProblem, Unreachable
from settings.databases import Timeouts
from tests.support.services import free_port

BASE = "mysql+pymysql://nova:se%40cret@db1:3307/nova_cell1?charset=utf8#top"
BARE = "mysql://db1"
SEVERAL = "mysql+pymysql://nova1:secret1@h1:3306,nova2:secret2@h2:3307/nova?charset=utf8"
TEMPLATE = "{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}#{fragment}"
SECRET = re.compile(r"se(%40|@)?cret")


def database(url: str) -> Database:
    return Database(url, "cell1", Timeouts(connect=1))


@pytest.mark.parametrize(
    ("template", "base", "url"),
    [
        pytest.param("mysql://u:p@h/nova", BASE, "mysql://u:p@h/nova", id="no template"),
        pytest.param("mysql://u:p@h/nova", None, "mysql://u:p@h/nova", id="no template, no base"),
        pytest.param(TEMPLATE, BASE, BASE, id="all parts"),
        pytest.param("mysql://{username}@h2/x", BASE, "mysql://nova@h2/x", id="one part"),
        pytest.param(
            "mysql://h/{path}_cell2",
            BASE,
            "mysql://h/nova_cell1_cell2",
            id="path without its slash",
        ),
        pytest.param(
            "mysql://u:{password}@h/x", BASE, "mysql://u:se%40cret@h/x", id="escapes stay escaped"
        ),
        pytest.param(
            "x/{path}",
            "sqlite:////srv/nova.db",
            "x/srv/nova.db",
            id="path without any of its slashes",
        ),
        pytest.param(
            TEMPLATE,
            BARE,
            "mysql://None:None@db1:None/?#",
            id="a missing part reads None, an empty one nothing",
        ),
        pytest.param(
            "mysql://{username2}:{password2}@{hostname2}:{port2}/{path}",
            SEVERAL,
            "mysql://nova2:secret2@h2:3307/nova",
            id="the second of several hosts",
        ),
        pytest.param(
            "mysql://{username1}:{password1}@{hostname1}:{port1}/?{query}",
            SEVERAL,
            "mysql://nova1:secret1@h1:3306/?charset=utf8",
            id="the first of several hosts: counting begins at 1",
        ),
        pytest.param(
            "mysql://{username2}:{password2}@{hostname2}:{port2}/x",
            "mysql://h1,h2/x",
            "mysql://None:None@h2:None/x",
            id="several hosts without more",
        ),
        pytest.param(
            "rabbit://{username2}:{password2}@[{hostname2}]:{port2}/{path}",
            "rabbit://u:p@h1:1,u2:p2@[fd00::2]:2/v",
            "rabbit://u2:p2@[fd00::2]:2/v",
            id="an address in brackets behind a host",
        ),
        pytest.param(
            "rabbit://{hostname1}:{port1},[{hostname2}]:{port2}/",
            "rabbit://H1:5672,[FD00::2]:5672/",
            "rabbit://h1:5672,[fd00::2]:5672/",
            id="an address in brackets behind a host, without credentials",
        ),
        pytest.param(
            "mysql://u:{password}@h/x",
            "mysql://u:se[cret@db1/nova",
            "mysql://u:se[cret@h/x",
            id="a bracket",
        ),
        pytest.param(
            "mysql://h:{port}/x",
            "mysql://db1:70000/nova",
            "mysql://h:None/x",
            id="a port that is none",
        ),
        pytest.param(
            "mysql://{{h}}/{path}", BASE, "mysql://{h}/nova_cell1", id="a doubled brace is one"
        ),
    ],
)
def test_a_template_is_filled_with_the_parts_of_the_configured_url(
    template: str, base: str | None, url: str
) -> None:
    assert urls.expand_template(template, base) == url


@pytest.mark.parametrize(
    ("template", "base"),
    [
        pytest.param("mysql://nova:se{cret@h/x", BASE, id="an opening brace in a password"),
        pytest.param("mysql://nova:sec}ret@{hostname}/x", BASE, id="a closing brace in a password"),
        pytest.param("mysql://nova:{secret}@{hostname}/x", BASE, id="an unknown name"),
        pytest.param("mysql://nova:secret@{hostname3}/x", SEVERAL, id="there is no third host"),
        pytest.param("mysql://nova:secret@{hostname1}/x", BASE, id="there is one host only"),
        pytest.param("mysql://nova:secret@{}/x", BASE, id="no name"),
        pytest.param("mysql://nova:secret@{0}/x", BASE, id="a number"),
        pytest.param("mysql://nova:secret@{hostname}/x", None, id="no base"),
        pytest.param("mysql://nova:secret@{hostname}/x", "", id="an empty base"),
        pytest.param(
            "mysql://nova:secret@{hostname}/x", "mysql://nova:secret@[::1/x", id="a broken base"
        ),
    ],
)
def test_a_template_that_cannot_be_filled_keeps_its_text_and_is_logged_without_it(
    template: str, base: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert urls.expand_template(template, base) == template
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "template" in caplog.text
    assert not SECRET.search(caplog.text)
    assert "{" not in caplog.text


@pytest.mark.parametrize(
    "equivalent",
    [
        (
            "mysql+pymysql://nova:secret@db1:3306/nova_cell1",
            "mysql://nova:secret@db1:3306/nova_cell1",
            "mariadb://nova:secret@db1:3306/nova_cell1",
            "mysql+pymysql://nova:secret@db1/nova_cell1",
            "mysql+pymysql://nova:secret@DB1/nova_cell1",
            "mysql+pymysql://admin:other@db1/nova_cell1",
            "mysql+pymysql://db1/nova_cell1",
            "mysql+pymysql://nova:secret@db1/nova_cell1?charset=utf8",
            "mysql+pymysql://nova:secret@db1/nova_cell1?ssl_ca=/etc/ssl/ca.pem",
            "mysql+mysqldb://nova:secret@db1/nova_cell1",
        ),
        (
            "mysql://nova:secret@/nova?unix_socket=/run/mysqld.sock",
            "mysql://localhost/nova?unix_socket=/run/mysqld.sock",
        ),
        ("sqlite:////srv/nova.db", "sqlite:////srv/nova.db?timeout=5"),
    ],
)
def test_every_url_of_a_database_has_its_fingerprint(equivalent: tuple[str, ...]) -> None:
    assert len({database(url).fingerprint for url in equivalent}) == 1


def test_different_databases_have_different_fingerprints() -> None:
    different = (
        "mysql://nova:secret@db1/nova_cell1",
        "mysql://nova:secret@db1/nova_cell2",
        "mysql://nova:secret@db1/NOVA_CELL1",
        "mysql://nova:secret@db1:3307/nova_cell1",
        "mysql://nova:secret@db2/nova_cell1",
        "mysql://nova:secret@db1/nova_cell1?unix_socket=/run/one.sock",
        "mysql://nova:secret@db1/nova_cell1?unix_socket=/run/two.sock",
        "sqlite:////srv/nova_cell1",
    )
    assert len({database(url).fingerprint for url in different}) == len(different)


def test_a_fingerprint_tells_nothing() -> None:
    fingerprint = database("mysql://nova:secret@db1/nova_cell1").fingerprint
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("mysql://nova:secret@db1/nova_cell1", "db1:3306"),
        ("mysql://nova:secret@DB1:3306/nova_cell2", "db1:3306"),
        ("mysql://nova:secret@db1:3307/nova_cell1", "db1:3307"),
        ("mysql:///nova_cell1", "localhost:3306"),
        ("sqlite:////srv/nova.db", "/srv/nova.db"),
    ],
)
def test_databases_of_one_server_are_known_as_such(url: str, server: str) -> None:
    assert database(url).server == server


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("mysql+pymysql://nova:secret@db1/nova_cell1", "db1:3306/nova_cell1"),
        ("mysql://nova:se%2Fcret@DB1:3307/nova_cell1?ssl_key=/etc/key", "db1:3307/nova_cell1"),
        ("mysql://nova:secret@/nova?unix_socket=/run/mysqld.sock", "/run/mysqld.sock/nova"),
        ("mysql://nova:secret@db1", "db1:3306/"),
        ("mysql://nova:se/cret@db1/nova", "db1:3306/nova"),
        ("mysql://nova:se#?:[{%cret@db1/nova", "db1:3306/nova"),
        ("sqlite:////srv/nova.db", "/srv/nova.db"),
    ],
)
def test_a_database_shows_its_place_and_no_secret(url: str, place: str) -> None:
    shown = database(url)
    assert str(shown) == f"cell1 ({place})"
    assert repr(shown) == f"<Database cell1 at {place}>"
    target = Target(Cell("uuid", "cell1", frozenset({1}), shown), api=shown)
    assert not SECRET.search(repr(target))
    assert not SECRET.search(f"{shown.url}")


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "secret",
        "nova:secret@db1/nova",
        "mysql+pymysql:/nova:secret@db1/nova",
        "mysql://nova:secret@db1:secret/nova",
        "rabbit://nova:secret@mq1/",
        "none:///",
        "{scheme}://nova:secret@{hostname}/nova",
    ],
)
def test_what_is_no_url_of_a_database_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(DatabaseProblem) as caught:
        database(url)
    message = str(caught.value)
    assert message.startswith("cell1: its URL cannot be used; expected mysql+pymysql://")
    assert not SECRET.search(message.replace("USER:PASSWORD", ""))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://nova:secret@db1/nova", "PostgreSQL"),
        ("postgresql+psycopg2://nova:secret@db1/nova", "PostgreSQL"),
        ("postgres://nova:secret@db1/nova", "PostgreSQL"),
        ("oracle://nova:secret@db1/nova", "Oracle"),
        ("mssql+pyodbc://nova:secret@db1/nova", "SQL Server"),
    ],
)
def test_a_database_of_another_kind_is_refused_with_the_kinds_that_are_supported(
    url: str, kind: str
) -> None:
    with pytest.raises(DatabaseProblem) as caught:
        database(url)
    assert str(caught.value) == (
        f"cell1: {kind} is not supported; MySQL and MariaDB are "
        "(mysql+pymysql://USER:PASSWORD@HOST/DATABASE), and SQLite (sqlite:///FILE)"
    )


@pytest.mark.parametrize(
    ("url", "driver", "advice"),
    [
        ("mysql+mysqldb://nova:secret@db1/nova", "mysqldb", "mysql+pymysql://"),
        ("mysql+mysqlconnector://nova:secret@db1/nova", "mysqlconnector", "mysql+pymysql://"),
        ("mariadb+mariadbconnector://nova:secret@db1/nova", "mariadbconnector", "mysql+pymysql://"),
        ("mysql+asyncmy://nova:secret@db1/nova", "asyncmy", "mysql+pymysql://"),
        ("mysql+nope://nova:secret@db1/nova", "nope", "mysql+pymysql://"),
        ("sqlite+aiosqlite:////srv/nova.db", "aiosqlite", "sqlite://"),
    ],
)
def test_another_driver_is_named_with_the_one_to_use(url: str, driver: str, advice: str) -> None:
    with pytest.raises(Unreachable) as caught, database(url).connect():
        pass
    assert str(caught.value).endswith(
        f": its URL names the driver {driver}, which is not supported: write {advice}, which Nova "
        "takes as well"
    )
    assert not SECRET.search(str(caught.value))


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"])
def test_these_schemes_are_served_by_pymysql(scheme: str) -> None:
    refusing = database(f"{scheme}://nova:secret@127.0.0.1:{free_port()}/nova")
    with pytest.raises(Unreachable, match="cannot connect"), refusing.connect():
        pass


def test_an_at_sign_in_a_password_that_is_not_encoded_shows_nothing_of_it() -> None:
    try:
        shown = str(database("mysql://nova:part1@part2@db1/nova"))
    except DatabaseProblem as problem:
        shown = str(problem)
    assert "part" not in shown


def test_a_database_that_cannot_be_reached_is_named_without_its_secret() -> None:
    closed = database(
        f"mysql+pymysql://nova:secret@127.0.0.1:{free_port()}/nova_cell1?charset=utf8"
    )
    with pytest.raises(Unreachable) as caught, closed.connect():
        pass
    assert str(caught.value).startswith(f"cell1 ({closed.server}/nova_cell1): ")
    assert "refused" in str(caught.value)
    assert not SECRET.search(str(caught.value))


def test_a_database_file_is_never_made(tmp_path: Path) -> None:
    absent = tmp_path / "nova.db"
    with (
        pytest.raises(Unreachable, match=r"nova\.db\): there is no such file"),
        database(f"sqlite:///{absent}").connect(),
    ):
        pass
    assert not absent.exists()
