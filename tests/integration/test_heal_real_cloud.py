"""The damage of the real cloud's Placement: six instances without allocations, one that belongs to
somebody else.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command import call_here
from tests.support.placement import Placement, nova_conf
from tests.support.realcloud import RealCloud, load
from tests.support.relay import Relay
from tests.support.services import MariaDB, free_port

DATABASE: Final = "placement_of_real_cloud"
HELD: Final = (
    "SELECT c.uuid, p.uuid, a.resource_class_id, a.used FROM allocations a "
    "JOIN consumers c ON c.uuid = a.consumer_id JOIN resource_providers p ON p.id = "
    "a.resource_provider_id"
)
OWNERS: Final = (
    "SELECT c.uuid, p.external_id, u.external_id FROM consumers c "
    "JOIN projects p ON p.id = c.project_id JOIN users u ON u.id = c.user_id"
)
BRIDGE, WITH_PORT = "1eaedacf-51a2-443c-9fe1-741d3a445cb9", "1ec4089e-1e57-4bd6-a59d-91c630cb02ec"
BANDWIDTH: Final = {"NET_BW_EGR_KILOBIT_PER_SEC": 1000, "NET_BW_IGR_KILOBIT_PER_SEC": 1000}


def of(vcpus: int, memory: int, disk: int) -> dict[str, int]:
    return {"VCPU": vcpus, "MEMORY_MB": memory, "DISK_GB": disk}


# What they had before it was taken away.
HAD: Final = {
    "57d50055-ee12-4240-b517-b8608766ccad": {
        "7d212cf6-a5e1-4611-87d5-0cccd0ccbd2b": of(1, 2048, 20)
    },
    "183078d6-04d4-4bc0-9597-a045f37d4d86": {
        "7d212cf6-a5e1-4611-87d5-0cccd0ccbd2b": of(2, 4096, 40)
    },
    "6a93665f-ca94-48a3-8e82-5563d51f2c5e": {
        "7409924e-60ac-4f0b-9ce9-87436bea58c2": of(1, 2048, 20)
    },
    "a823204b-c5cb-4102-861a-0056972cc1ae": {
        "52523222-775c-4618-adb5-0cf0c31da2eb": of(4, 8192, 81)
    },
    "d56af463-5349-488d-8b54-b7ed1f162107": {
        "7de271fc-d2e5-4b98-9f1a-94c2f6dab5f5": of(2, 4096, 40)
    },
    WITH_PORT: {"6af4cde4-3d90-4031-8d8b-e7a163700bd5": of(2, 4096, 40), BRIDGE: BANDWIDTH},
}
FOREIGN: Final = "05dc05a0-50c6-4d35-ba71-d49c79d290f6"
OWNER: Final = ("9cf89e20a4edd8d7a191b014cb74d9cf", "9f43e8f5ded8b1cacc3bf55ccff7b784")


@pytest.fixture(scope="module")
def damaged(mariadb: MariaDB) -> Iterator[Placement]:
    """The Placement of the real cloud."""
    load(mariadb, DATABASE, "placement.sql.gz")
    with Placement(mariadb, DATABASE) as server:
        yield server


@pytest.fixture
def neutron() -> Iterator[Relay]:
    """What Neutron would answer: the real cloud has none. One port, that names its bridge."""
    with Relay(free_port()) as relay:
        port: dict[str, Any] = {
            "id": "p", "device_id": WITH_PORT, "binding:profile": {"allocation": {"g": BRIDGE}},
            "resource_request": {"request_groups": [{"id": "g", "required": [], "resources": BANDWIDTH}]},
        }  # fmt: skip
        relay.fail("GET", "/v2.0/ports", status=200, body={"ports": [port]})
        yield relay


def test_all_that_was_taken_away_comes_back_and_nothing_else_changes(
    realcloud: RealCloud, damaged: Placement, neutron: Relay, tmp_path: Path
) -> None:
    config = realcloud.config(tmp_path)
    services = nova_conf(damaged.url) + nova_conf(neutron.url).replace("[placement]", "[neutron]")
    config.write_text(config.read_text() + services)
    held, owners = set(realcloud.rows(DATABASE, HELD)), set(realcloud.rows(DATABASE, OWNERS))
    nova = realcloud.checksums()
    for dry in ("--dry-run ", ""):
        ended = call_here(f"placement heal_allocations {dry}-f json", config=config)
        assert (ended.code, ended.err) == (4 if dry else 0, "")
        healed = {
            one["instance"]: one["what"]
            for cell in ended.document["cells"]
            for one in cell["instances"]
        }
        assert healed == {**dict.fromkeys(HAD, "created"), FOREIGN: "updated"}
    assert {uuid: damaged.held(uuid) for uuid in HAD} == HAD
    assert damaged.owner(FOREIGN) == OWNER
    assert {row for row in realcloud.rows(DATABASE, HELD) if row[0] not in HAD} == held
    unchanged = {row for row in owners if row[0] != FOREIGN}
    assert {
        row for row in realcloud.rows(DATABASE, OWNERS) if row[0] not in {*HAD, FOREIGN}
    } == unchanged
    assert realcloud.checksums() == nova
    assert call_here("placement heal_allocations", config=config).code == 4
