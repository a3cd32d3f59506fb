"""Real services, each with a relay before it, and a small cloud that reaches them by their
catalog.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.peers.servers import PASSWORD, Keystone, Neutron, authtoken
from tests.support.placement import Placement
from tests.support.relay import Relay
from tests.support.services import MariaDB
from tests.support.small_cloud import SmallCloud

PLACEMENT: Final = """\
[api]
auth_strategy = keystone
[placement_database]
connection = {database}
sync_on_startup = true
"""
SECTION: Final = """\
[{name}]
auth_type = password
auth_url = {keystone}/v3
username = {user}
password = {password}
project_name = service
user_domain_id = default
project_domain_id = default
region_name = RegionOne
connect_retry_delay = 0.1
status_code_retry_delay = 0.1
"""


def sections(keystone: Keystone, **users: str) -> str:
    """The sections [placement] and [neutron], by default of the user nova."""
    return "".join(
        SECTION.format(
            name=name, keystone=keystone.url, user=users.get(name, "nova"), password=PASSWORD
        )
        for name in ("placement", "neutron")
    )


@pytest.fixture(scope="session")
def keystone() -> Iterator[Keystone]:
    with Keystone() as server:
        yield server


@pytest.fixture(scope="session")
def placement_server(mariadb: MariaDB, keystone: Keystone) -> Iterator[Placement]:
    with Placement(
        mariadb, "placement_of_peers", PLACEMENT + authtoken(keystone.url, "placement")
    ) as server:
        yield server


@pytest.fixture(scope="session")
def neutron(mariadb: MariaDB, keystone: Keystone) -> Iterator[Neutron]:
    with Neutron(mariadb, keystone) as server:
        yield server


@pytest.fixture(scope="session")
def network(registered: None, neutron: Neutron) -> str:
    """A network for all ports."""
    return neutron.make_network()


@pytest.fixture(scope="session")
def relays(placement_server: Placement, neutron: Neutron) -> Iterator[dict[str, Relay]]:
    """What the catalog names, by service type."""
    with Relay(placement_server.port) as placement, Relay(neutron.port) as network:
        yield {"placement": placement, "network": network}


@pytest.fixture(scope="session")
def registered(keystone: Keystone, relays: dict[str, Relay], placement_server: Placement) -> None:
    """Users and catalog are there."""
    keystone.register({kind: relay.url for kind, relay in relays.items()})
    placement_server.token = keystone.token("nova", "service")


@pytest.fixture
def relay(registered: None, relays: dict[str, Relay]) -> Relay:
    """Before Placement."""
    relays["placement"].heal()
    return relays["placement"]


@pytest.fixture
def neutron_relay(registered: None, relays: dict[str, Relay]) -> Relay:
    """Before Neutron."""
    relays["network"].heal()
    return relays["network"]


@pytest.fixture
def cloud(
    registered: None, relay: Relay, neutron_relay: Relay, placement: Placement, neutron: Neutron, keystone: Keystone,
    tmp_path: Path,
) -> SmallCloud:  # fmt: skip
    """Two cells with a host each; no instance, no port."""
    neutron.delete_ports()
    made = SmallCloud(tmp_path)
    made.configure(sections(keystone))
    return made
