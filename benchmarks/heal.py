"""``heal``: ``placement heal_allocations`` on 1,000 instances, with a real Placement, beside the
stock tool.
"""

import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.cloud import API, Cloud, WrongResult, cloud
from benchmarks.programs import programs, timed
from benchmarks.tables import markdown
from tests.support.placement import Placement, nova_conf
from tests.support.relay import Relay
from tests.support.services import free_port

CELLS: Final = 4
HOSTS: Final = 5  # of each cell
INSTANCES: Final = 250  # of each cell
TENANTS: Final = 10
COMMAND: Final = ("placement", "heal_allocations")
ROOM: Final = {"VCPU": 640, "MEMORY_MB": 10_000_000, "DISK_GB": 100_000}
# Of Neutron only the answer to one question is needed, the same for both tools.
NEUTRON_CONF: Final = "[neutron]\nauth_type = none\nendpoint_override = {url}\n"
FLAVOR: Final[dict[str, Any]] = {
    "id": 1, "name": "small", "memory_mb": 512, "vcpus": 1, "root_gb": 10, "ephemeral_gb": 0,
    "flavorid": "1", "swap": 0, "rxtx_factor": 1.0, "vcpu_weight": 0, "disabled": False, "is_public": True,
    "extra_specs": {}, "description": None, "created_at": None, "updated_at": None, "deleted_at": None,
    "deleted": False,
}  # fmt: skip


class Measured(NamedTuple):
    """What one run took."""

    seconds: float
    placement: int
    neutron: int


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: a fifth of the instances
    """
    number = INSTANCES // 5 if quick else INSTANCES
    with (
        cloud(CELLS) as measured,
        Placement(measured.server) as placement,
        _relays(placement) as (before, neutron),
    ):
        _fill(measured, placement, number)
        with tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder:
            config = measured.config(Path(folder))
            services = nova_conf(before.url) + NEUTRON_CONF.format(url=neutron.url)
            config.write_text(config.read_text() + services)
            found: dict[str, tuple[Measured, Measured]] = {}
            for name, words in programs(stock).items():
                for consumer in placement_consumers(measured):
                    placement.ask("DELETE", f"/allocations/{consumer}")
                line = [*words, "--config-file", str(config), *COMMAND]
                # Behind 50 healed instances in one cell the stock tool ends with 1, and is simply
                # run again.
                all_of_them = _measure(
                    line, before, neutron, until=number * CELLS, measured=measured
                )
                found[name] = (
                    all_of_them,
                    _measure(line, before, neutron, until=0, measured=measured),
                )
    rows = [
        [f"{name}, {what}", f"{one.seconds:.1f}", str(one.placement), str(one.neutron)]
        for name, pair in found.items()
        for what, one in zip(("all to heal", "nothing to heal"), pair, strict=True)
    ]
    if stock:
        own, rival = found["cellkeeper"], found["nova-manage"]
        ratios = (two.seconds / one.seconds for one, two in zip(own, rival, strict=True))
        rows += [
            [f"ratio, {what}", f"{ratio:.1f}", "", ""]
            for what, ratio in zip(("all to heal", "nothing to heal"), ratios, strict=True)
        ]
    of_all = (
        f"{number * CELLS} instances of {TENANTS} tenants on {HOSTS * CELLS} hosts in {CELLS} cells"
    )
    title = f"{of_all}, `{' '.join(COMMAND)}`:"
    return f"{title}\n\n{markdown(('run', 'seconds', 'requests to Placement', 'requests to Neutron'), rows)}"


@contextmanager
def _relays(placement: Placement) -> Iterator[tuple[Relay, Relay]]:
    with Relay(placement.port) as before, Relay(free_port()) as neutron:
        _answer(neutron)
        yield before, neutron


def _answer(neutron: Relay) -> None:
    neutron.fail("GET", "/v2.0/ports", status=200, body={"ports": []})


def _measure(
    line: Sequence[str], before: Relay, neutron: Relay, *, until: int, measured: Cloud
) -> Measured:
    """Run the command until so many instances hold allocations; without a number, once."""
    seconds, asked, ports = 0.0, 0, 0
    while True:
        before.heal()
        neutron.heal()
        _answer(neutron)
        ended = timed(line)
        seconds += ended.seconds
        asked += len(before.asked)
        ports += len(neutron.asked)
        if ended.code not in (0, 1, 4):
            raise WrongResult(f"{line[0]} ended with {ended}")
        if len(placement_consumers(measured)) >= until:
            return Measured(seconds, asked, ports)


def placement_consumers(measured: Cloud) -> list[str]:
    """All that hold allocations."""
    return [row[0] for row in measured.server.execute("SELECT uuid FROM consumers", "placement")]


def _fill(measured: Cloud, placement: Placement, number: int) -> None:
    """Hosts and instances in the cells; providers in Placement."""
    stored = json.dumps({"cur": {
        "nova_object.name": "Flavor", "nova_object.namespace": "nova", "nova_object.version": "1.2",
        "nova_object.data": FLAVOR, "nova_object.changes": ["extra_specs"],
    }, "old": None, "new": None})  # fmt: skip
    for cell_number, cell in enumerate(measured.cells, start=1):
        hosts = [(f"{cell}-{host}", str(uuid.uuid4())) for host in range(HOSTS)]
        for name, node in hosts:
            placement.provide(node, name, ROOM)
        with measured.link(cell) as link, link.cursor() as cursor:
            cursor.execute("SET SESSION foreign_key_checks = 0")
            cursor.executemany(
                "INSERT INTO compute_nodes (uuid, host, hypervisor_hostname, deleted, vcpus, "
                "memory_mb, local_gb, "
                "vcpus_used, memory_mb_used, local_gb_used, hypervisor_type, hypervisor_version, "
                "cpu_info, mapped) "
                "VALUES (%s, %s, %s, 0, 64, 1, 1, 0, 0, 0, 'fake', 1, '{}', 1)",
                [(node, name, name) for name, node in hosts],
            )
            uuids = [str(uuid.uuid4()) for _ in range(number)]
            cursor.executemany(
                "INSERT INTO instances (created_at, uuid, project_id, user_id, host, node, "
                "vm_state, image_ref, "
                "deleted, hidden, memory_mb, vcpus, root_gb, ephemeral_gb) "
                "VALUES (UTC_TIMESTAMP(), %s, %s, %s, %s, %s, 'active', 'image', 0, 0, 512, 1, 10, "
                "0)",
                [
                    (
                        one,
                        f"p{index % TENANTS}",
                        f"u{index % TENANTS}",
                        *[hosts[index % HOSTS][0]] * 2,
                    )
                    for index, one in enumerate(uuids)
                ],
            )
            cursor.executemany(
                "INSERT INTO instance_extra (deleted, instance_uuid, flavor) VALUES (0, %s, %s)",
                [(one, stored) for one in uuids],
            )
        with measured.link(API) as link, link.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO instance_mappings (instance_uuid, cell_id, project_id, user_id, "
                "queued_for_delete) "
                "VALUES (%s, %s, %s, %s, 0)",
                [
                    (one, cell_number, f"p{index % TENANTS}", f"u{index % TENANTS}")
                    for index, one in enumerate(uuids)
                ],
            )
