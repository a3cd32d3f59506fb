"""TLS and places, by URL and by file of options: a server is verified as by the stock tool's
libraries, or better.
"""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from oslo_db.sqlalchemy.engines import create_engine
from sqlalchemy import Connection, text

from novadb.engine import Database
from novadb.errors import DatabaseProblem
from settings.databases import Timeouts
from tests.support.pki import Pki
from tests.support.services import HOST, MariaDB

TIMEOUTS: Final = Timeouts(lock_wait=1)
USERS: Final = {"anyone": "", "encrypted": "REQUIRE SSL", "certified": "REQUIRE X509"}
SCHEMAS: Final = ("here", "there")
LOOK: Final = text(
    "SELECT USER(), DATABASE(), @@port, (SELECT variable_value FROM "
    "information_schema.session_status WHERE variable_name = 'Ssl_cipher') <> ''"
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.make(tmp_path_factory.mktemp("pki"))


def prepared(server: MariaDB) -> MariaDB:
    for schema in SCHEMAS:
        server.create(schema)
    for user, requirement in USERS.items():
        server.execute(f"CREATE USER {user}@'%' IDENTIFIED BY '{server.PASSWORD}' {requirement}")
        server.execute(f"GRANT ALL ON *.* TO {user}@'%'")
        server.execute(
            f"CREATE USER {user}@'localhost' IDENTIFIED BY '{server.PASSWORD}' {requirement}"
        )
        server.execute(f"GRANT ALL ON *.* TO {user}@'localhost'")
    return server


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[MariaDB]:
    """With TLS, by a certificate for its address."""
    with MariaDB(*pki.serve("server")) as server:
        yield prepared(server)


@pytest.fixture(scope="module")
def misnamed(pki: Pki) -> Iterator[MariaDB]:
    """With TLS, by a certificate of the right authority for another name."""
    with MariaDB(*pki.serve("elsewhere")) as server:
        yield prepared(server)


@pytest.fixture(scope="module")
def open_server() -> Iterator[MariaDB]:
    """Without TLS."""
    with MariaDB("--skip-ssl") as server:
        yield prepared(server)


@dataclass(frozen=True)
class Case:
    """A configuration, and what becomes of a connection by it.

    :ivar expected: ``encrypted``, ``open`` or ``refused``
    :ivar query: behind the URL; {pki} is the folder of the certificates, {file} the file of options
    :ivar file: what stands in that file
    :ivar url: before the query, where it says less than all
    """

    expected: str
    query: str = ""
    file: str = ""
    user: str = "anyone"
    url: str = "mysql+pymysql://{user}:{password}@{host}:{port}/here"


READ: Final = "read_default_file={file}"
CLIENT: Final = (
    "[client]\nssl-ca={pki}/ca.pem\nssl-cert={pki}/client.pem\nssl-key={pki}/client.key\n"
)
QUOTED: Final = CLIENT.replace("ssl-ca={pki}/ca.pem", "ssl_ca = '{pki}/ca.pem'")
OF_GROUP: Final = CLIENT.replace("[client]", "[tripleo]")
WRONG: Final = "[client]\nssl-ca={pki}/wrong-ca.pem\n"
TRIPLEO: Final = f"{READ}&read_default_group=tripleo"
BARE: Final = "mysql+pymysql:///here"

OF_URL: Final = {
    "nothing": Case("encrypted"),
    "nothing, where TLS is demanded": Case("encrypted", user="encrypted"),
    "a CA": Case("encrypted", "ssl_ca={pki}/ca.pem"),
    "a wrong CA": Case("refused", "ssl_ca={pki}/wrong-ca.pem"),
    "a CA that is not there": Case("refused", "ssl_ca={pki}/no-ca.pem"),
    "a CA that is none": Case("refused", "ssl_ca={pki}/nonsense.pem"),
    "a client certificate": Case(
        "encrypted",
        "ssl_ca={pki}/ca.pem&ssl_cert={pki}/client.pem&ssl_key={pki}/client.key",
        user="certified",
    ),
    "a client certificate alone": Case(
        "encrypted", "ssl_cert={pki}/client.pem&ssl_key={pki}/client.key", user="certified"
    ),
    "a client certificate with another key": Case(
        "refused", "ssl_cert={pki}/client.pem&ssl_key={pki}/server.key", user="certified"
    ),
    "no client certificate": Case("refused", "ssl_ca={pki}/ca.pem", user="certified"),
    "verification by the machine's authorities": Case("refused", "ssl_verify_cert=true"),
    "identity by the machine's authorities": Case("refused", "ssl_verify_identity=true"),
    "no verification": Case("encrypted", "ssl_verify_cert=false"),
    "no verification in spite of a wrong CA": Case(
        "encrypted", "ssl_ca={pki}/wrong-ca.pem&ssl_verify_cert=false"
    ),
    "any word for identity": Case("refused", "ssl_verify_identity=false"),
    "an unknown cipher": Case("refused", "ssl_ca={pki}/ca.pem&ssl_cipher=NONSENSE"),
    "no TLS": Case("open", "ssl_disabled=true"),
    "no TLS, where it is demanded": Case("refused", "ssl_disabled=true", user="encrypted"),
    "an unknown option": Case("refused", "ssl_caa={pki}/ca.pem"),
}
OF_FILE: Final = {
    "a CA": Case("encrypted", READ, "[client]\nssl-ca={pki}/ca.pem\n"),
    "a wrong CA": Case("refused", READ, WRONG),
    "a CA that is not there": Case("refused", READ, "[client]\nssl-ca={pki}/no-ca.pem\n"),
    "a CA that is none": Case("refused", READ, "[client]\nssl-ca={pki}/nonsense.pem\n"),
    "a client certificate": Case("encrypted", READ, CLIENT, user="certified"),
    "in quotes, with other dashes": Case("encrypted", READ, QUOTED, user="certified"),
    "a wrong CA of a "
    "group": Case("refused", TRIPLEO, "[tripleo]\nssl=1\nssl-ca={pki}/wrong-ca.pem\n"),
    "a client certificate of a group": Case("encrypted", TRIPLEO, OF_GROUP, user="certified"),
    "a wrong CA of another group": Case("encrypted", TRIPLEO, WRONG),
    "the URL's CA before the file's": Case("encrypted", READ + "&ssl_ca={pki}/ca.pem", WRONG),
    "a wrong CA of the URL before the "
    "file's": Case("refused", READ + "&ssl_ca={pki}/wrong-ca.pem", CLIENT),
    "verification by the machine's authorities before the file's": Case(
        "refused", READ + "&ssl_verify_cert=true", CLIENT
    ),
    "no TLS by the URL": Case("open", READ + "&ssl_disabled=true", WRONG),
    "host, port, user, password": Case(
        "encrypted", READ, "[client]\nhost={host}\nport={port}\nuser={user}\npassword={password}\n", url=BARE
    ),
    "the name of the database": Case(
        "encrypted", READ, "[client]\ndatabase=there\n", url="mysql+pymysql://{user}:{password}@{host}:{port}"
    ),
    "a port that is "
    "none": Case("refused", READ, "[client]\nhost={host}\nport=nova\nuser={user}\n", url=BARE),
    "a socket": Case("encrypted", READ, "[client]\nsocket={socket}\n"),
    "a socket that is not there": Case("refused", READ, "[client]\nsocket={socket}.gone\n"),
    "an address to come from": Case("encrypted", READ, "[client]\nbind-address=127.0.0.7\n"),
    "an address of others to come "
    "from": Case("refused", READ, "[client]\nbind-address=192.0.2.1\n"),
    "a character set": Case("encrypted", READ, "[client]\ndefault-character-set=latin1\n"),
    "a character set that is "
    "none": Case("encrypted", READ, "[client]\ndefault-character-set=nonsense\n"),
    "the URL before the "
    "file": Case("encrypted", READ, "[client]\nhost=192.0.2.1\nport=1\nuser=x\npassword=x\n"),
    "no file": Case("encrypted", "read_default_file={file}.gone"),
    "a file without the group": Case("encrypted", READ, "[mysqld]\nport=1\n"),
    "no option file": Case("refused", READ, "no options\n"),
    "an option twice": Case("refused", READ, "[client]\nport=1\nport=2\n"),
}  # fmt: skip
OF_MISNAMED_SERVER: Final = {
    "nothing": Case("encrypted"),
    "its CA": Case("refused", "ssl_ca={pki}/ca.pem"),
    "its CA in a file": Case("refused", READ, CLIENT),
    "its CA without a look at the name": Case(
        "encrypted", "ssl_ca={pki}/ca.pem&ssl_check_hostname=false"
    ),
    "a wrong CA without a look at the name": Case(
        "refused", "ssl_ca={pki}/wrong-ca.pem&ssl_check_hostname=false"
    ),
}
OF_OPEN_SERVER: Final = {
    "nothing": Case("open"),
    "a CA": Case("refused", "ssl_ca={pki}/ca.pem"),
    "a CA in a file": Case("refused", READ, CLIENT),
    "verification": Case("refused", "ssl_verify_cert=true"),
    "no verification": Case("refused", "ssl_verify_cert=false"),
    "no TLS": Case("open", "ssl_ca={pki}/ca.pem&ssl_disabled=true"),
}


@dataclass(frozen=True)
class Bed:
    """One server with one configuration."""

    server: MariaDB
    pki: Pki
    file: Path

    def url(self, case: Case) -> str:
        """The URL of a case; its file is written."""
        words = {
            "user": case.user,
            "password": MariaDB.PASSWORD,
            "host": HOST,
            "port": self.server.port,
            "pki": self.pki.folder,
            "file": self.file,
            "socket": self.server.folder / "data" / "server.sock",
        }
        self.file.write_text(case.file.format(**words))
        return (case.url + (f"?{case.query}" if case.query else "")).format(**words)


def ours(url: str, parameters: str = "") -> tuple[Any, ...]:
    with Database(url, "cell1", TIMEOUTS, parameters).connect() as connection:
        return observed(connection)


def stock(url: str, parameters: str = "") -> tuple[Any, ...]:
    """By oslo.db, as Nova calls it."""
    engine = create_engine(url, max_retries=0, connection_parameters=parameters or None)
    try:
        with engine.connect() as connection:
            return observed(connection)
    finally:
        engine.dispose()


def observed(connection: Connection) -> tuple[Any, ...]:
    return tuple(connection.execute(LOOK).one())


def outcome(connect: Callable[[str], tuple[Any, ...]], url: str) -> str | tuple[Any, ...]:
    """How a connection ends: ``refused``, or what is seen by it."""
    try:
        return connect(url)
    except Exception:
        return "refused"


def check(bed: Bed, case: Case) -> None:
    url = bed.url(case)
    by_us = outcome(ours, url)
    assert by_us == outcome(stock, url)
    assert (
        by_us if isinstance(by_us, str) else "encrypted" if by_us[-1] else "open"
    ) == case.expected


@pytest.mark.parametrize("case", OF_URL.values(), ids=OF_URL)
def test_options_of_the_url_mean_what_they_mean_to_the_stock_tool(
    server: MariaDB, pki: Pki, tmp_path: Path, case: Case
) -> None:
    check(Bed(server, pki, tmp_path / "my.cnf"), case)


# Which PyMySQL leaves open by itself.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
@pytest.mark.parametrize("case", OF_FILE.values(), ids=OF_FILE)
def test_a_file_of_options_means_what_it_means_to_the_stock_tool(
    server: MariaDB, pki: Pki, tmp_path: Path, case: Case
) -> None:
    check(Bed(server, pki, tmp_path / "my.cnf"), case)
    # So that an open socket is told here, not in whatever test the collector happens to run.
    gc.collect()


@pytest.mark.parametrize("case", OF_MISNAMED_SERVER.values(), ids=OF_MISNAMED_SERVER)
def test_the_name_in_a_certificate_counts_where_it_counts_for_the_stock_tool(
    misnamed: MariaDB, pki: Pki, tmp_path: Path, case: Case
) -> None:
    check(Bed(misnamed, pki, tmp_path / "my.cnf"), case)


@pytest.mark.parametrize("case", OF_OPEN_SERVER.values(), ids=OF_OPEN_SERVER)
def test_a_server_without_tls_is_refused_where_tls_is_asked_for(
    open_server: MariaDB, pki: Pki, tmp_path: Path, case: Case
) -> None:
    check(Bed(open_server, pki, tmp_path / "my.cnf"), case)


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "off"])
def test_tls_that_is_not_disabled_is_used(
    server: MariaDB, pki: Pki, tmp_path: Path, word: str
) -> None:
    """The stock tool takes any word for yes."""
    url = Bed(server, pki, tmp_path / "my.cnf").url(Case("encrypted", f"ssl_disabled={word}"))
    assert (ours(url)[-1], stock(url)[-1]) == (1, 0)


def test_names_are_read_as_unicode_whatever_the_file_says(
    server: MariaDB, pki: Pki, tmp_path: Path
) -> None:
    url = Bed(server, pki, tmp_path / "my.cnf").url(
        Case("encrypted", READ, "[client]\ndefault-character-set=latin1\n")
    )
    with Database(url, "cell1", TIMEOUTS).connect() as connection:
        assert connection.execute(text("SELECT 'Ω', @@character_set_client")).one() == (
            "Ω",
            "utf8mb4",
        )


@pytest.mark.parametrize("parameters", ["ssl_ca={pki}/wrong-ca.pem", "read_default_file={file}"])
def test_parameters_beside_the_connection_are_those_of_its_url(
    server: MariaDB, pki: Pki, tmp_path: Path, parameters: str
) -> None:
    """As Nova takes [database]/connection_parameters, also for each cell."""
    bed = Bed(server, pki, tmp_path / "my.cnf")
    url = bed.url(Case("refused", "charset=utf8mb4", WRONG))
    for connect in ours, stock:
        with pytest.raises(Exception, match=r"(?i)certificate"):
            connect(url, parameters.format(pki=pki.folder, file=bed.file))


def test_every_statement_is_part_of_a_transaction_whatever_the_url_says(server: MariaDB) -> None:
    url = f"{server.url('here')}?autocommit=true"
    with Database(url, "cell1", TIMEOUTS).connect() as connection:
        assert connection.execute(text("SELECT @@autocommit")).scalar() == 0


PLACES: Final = {
    "a host and a port": ("host=db7\nport=3307\n", "mysql:///nova", "db7:3307/nova", "db7:3307"),
    "a database": ("database=nova_cell7\n", "mysql://db1", "db1:3306/nova_cell7", "db1:3306"),
    "a socket": ("socket=/run/db7.sock\n", "mysql://db1/nova", "/run/db7.sock/nova", "db1:3306"),
    "the URL before the file": (
        "host=db7\nport=3307\ndatabase=x\n",
        "mysql://db1:3308/nova",
        "db1:3308/nova",
        "db1:3308",
    ),
    "no option file": ("db7", "mysql://db1/nova", "db1:3306/nova", "db1:3306"),
}


@pytest.mark.parametrize(("options", "url", "place", "server_name"), PLACES.values(), ids=PLACES)
def test_a_database_is_known_by_the_place_that_the_file_names(
    tmp_path: Path, options: str, url: str, place: str, server_name: str
) -> None:
    file = tmp_path / "my.cnf"
    file.write_text(options if options == "db7" else f"[client]\n{options}")
    database = Database(f"{url}?read_default_file={file}", "cell1", TIMEOUTS)
    assert (str(database), database.server) == (f"cell1 ({place})", server_name)
    host, _, name = place.rpartition("/")
    plain = f"mysql:///{name}?unix_socket={host}" if host.startswith("/") else f"mysql://{place}"
    assert database.fingerprint == Database(plain, "cell1", TIMEOUTS).fingerprint


PAIR: Final = "ssl_cert={pki}/client.pem&ssl_key={pki}/"
LINES: Final = {
    "a wrong CA": (
        "ssl_ca={pki}/wrong-ca.pem",
        "its certificate is not accepted: self-signed certificate in",
    ),
    "a CA that is not there": (
        "ssl_ca={pki}/secret.pem",
        "the file of ssl_ca cannot be read: No such file or",
    ),
    "a key that is not there": (
        f"{PAIR}secret.key",
        "the file of ssl_key cannot be read: No such file or directory",
    ),
    "another key": (f"{PAIR}server.key", "its options of TLS cannot be used: KEY_VALUES_MISMATCH"),
    "a key with a password": (f"{PAIR}locked.key", "its options of TLS cannot be used: "),
    "an unknown option": (
        "ssl_caa=secret",
        "it has an option that PyMySQL does not know; is ssl_ca meant?",
    ),
    "a part of a password": ("x&secret=y", "it has an option that PyMySQL does not know"),
    "no number": (
        "connect_timeout=secret",
        "its driver is unknown, or an option has a value of the wrong kind",
    ),
    "no port": ("port=secret", "one of its options has a value that PyMySQL does not take"),
    "no charset": ("charset=secret", "unknown charset"),
    "no option file": (
        READ,
        "the file that read_default_file names is not an option file as MySQL has them",
    ),
    "ssl": ("ssl=secret", "ssl is not an option of a URL: use ssl_ca, ssl_cert, ssl_key"),
    "compress": ("compress=true", "compress and named_pipe are not supported"),
}


@pytest.mark.parametrize(("query", "line"), LINES.values(), ids=LINES)
def test_what_cannot_be_used_is_said_in_a_line_that_repeats_no_value(
    server: MariaDB, pki: Pki, tmp_path: Path, query: str, line: str
) -> None:
    url = Bed(server, pki, tmp_path / "my.cnf").url(Case("refused", query, "secret"))
    with pytest.raises(DatabaseProblem) as problem:
        ours(url)
    assert str(problem.value).startswith(f"cell1 ({HOST}:{server.port}/here): ")
    assert line in str(problem.value)
    assert "secret" not in str(problem.value)
    assert str(pki.folder) not in str(problem.value)


def test_a_file_that_cannot_be_read_is_told_once(
    server: MariaDB, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{server.url('here')}?read_default_file={tmp_path}/my.cnf"
    for _ in range(3):
        ours(url)
    (record,) = [record for record in caplog.records if record.name == "cellkeeper.database"]
    assert "read_default_file" in record.getMessage()
    assert str(tmp_path) not in record.getMessage()
