"""The installed program on a server with TLS, configured as deployments do: by a file of options in
every URL.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.command import Ended, call
from tests.support.pki import Pki
from tests.support.realcloud import NOVA_CONF, RealCloud
from tests.support.services import HOST, MariaDB

QUERY: Final = "?read_default_file={file}&read_default_group=tripleo"
DRY_RUN: Final = "db archive_deleted_rows --all-cells --dry-run"
REFUSED: Final = "its certificate is not accepted: self-signed certificate in certificate chain"
Configure = Callable[..., Path]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def cloud(pki: Pki) -> Iterator[RealCloud]:
    """Whose user ``nova`` must show a certificate."""
    with MariaDB(*pki.serve("server")) as server:
        server.execute(f"CREATE USER certified@'%' IDENTIFIED BY '{server.PASSWORD}' REQUIRE X509")
        server.execute("GRANT ALL ON *.* TO certified@'%'")
        yield RealCloud(server)


@pytest.fixture
def configure(cloud: RealCloud, tmp_path: Path) -> Configure:
    """Write a nova.conf; its URLs and those of all cells have the query, and the file the
    options.
    """

    def write(
        options: str, *, before: str = "{user}:{password}@{host}:{port}", user: str = "nova"
    ) -> Path:
        file, conf = tmp_path / "my.cnf", tmp_path / "nova.conf"
        words = {
            "user": user,
            "password": MariaDB.PASSWORD,
            "host": HOST,
            "port": cloud.server.port,
        }
        file.write_text("[tripleo]\nssl=1\n" + options.format(**words))
        login, query = before.format(**words), QUERY.format(file=file)
        urls = {name: f"mysql+pymysql://{login}/{name}{query}" for name in cloud.databases}
        conf.write_text(
            NOVA_CONF.format(locks=tmp_path / "locks", api=urls[cloud.api], cell1=urls[cloud.cell1])
        )
        for cell in cloud.uuids:
            change = (
                f"UPDATE cell_mappings SET database_connection = '{urls[f'nova_{cell}']}' "
                f"WHERE name = '{cell}'"
            )
            cloud.rows(cloud.api, change)
        return conf

    return write


def refused_by(ended: Ended, place: str) -> None:
    assert ended.code == 3
    assert ended.line == f"the API database ({place}/nova_api): {REFUSED} (error 2026)"


def test_a_wrong_authority_in_the_file_is_refused(
    cloud: RealCloud, configure: Configure, pki: Pki
) -> None:
    conf = configure(f"ssl-ca={pki.folder}/wrong-ca.pem\n")
    refused_by(call(DRY_RUN, config=conf), f"{HOST}:{cloud.server.port}")


def test_a_client_certificate_in_the_file_is_shown(configure: Configure, pki: Pki) -> None:
    lines = f"ssl-ca={pki.folder}/ca.pem\nssl-cert={pki.folder}/client.pem\nssl-key={pki.folder}/client.key\n"
    ended = call(DRY_RUN, config=configure(lines, user="certified"))
    assert (ended.code, ended.err) == (0, "")
    assert "cell3.instances" in ended.out


def test_places_and_login_of_the_file_are_used(
    cloud: RealCloud, configure: Configure, pki: Pki
) -> None:
    lines = "host={host}\nport={port}\nuser={user}\npassword={password}\n"
    conf = configure(lines + f"ssl-ca={pki.folder}/ca.pem\n", before="")
    ended = call(DRY_RUN, config=conf)
    assert (ended.code, ended.err) == (0, "")
    conf = configure(lines + f"ssl-ca={pki.folder}/wrong-ca.pem\n", before="")
    refused_by(call(DRY_RUN, config=conf), f"{HOST}:{cloud.server.port}")


def test_parameters_of_the_configuration_are_those_of_each_cell(
    configure: Configure, pki: Pki
) -> None:
    """Of [database]: of the cells, and not of the API database."""
    conf = configure("")
    text = conf.read_text().replace(
        "[api_database]", "connection_parameters = ssl_ca={}\n[api_database]"
    )
    conf.write_text(text.format(f"{pki.folder}/wrong-ca.pem"))
    ended = call(DRY_RUN, config=conf)
    assert ended.code == 255
    assert [line.partition(" ")[0] for line in ended.err.splitlines()] == [
        "cell0",
        "cell1",
        "cell2",
        "cell3",
    ]
    assert ended.err.count(REFUSED) == 4
    conf.write_text(text.format(f"{pki.folder}/ca.pem"))
    assert call(DRY_RUN, config=conf).code == 0
