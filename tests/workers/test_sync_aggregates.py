"""``placement sync_aggregates`` as a run of workers: left to them, and gone on with when one
dies.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.placement import Placement, nova_conf
from tests.support.relay import Relay
from tests.workers.fleet import Site

SYNC = "placement sync_aggregates"
LACKING = [("cmp-c1-01", 1), ("cmp-c2-01", 2), ("cmp-c3-02", 1)]


@pytest.fixture
def relay(site: Site, placed: Placement) -> Iterator[Relay]:
    """Before Placement; the site's configuration names it."""
    with Relay(placed.port) as between:
        site.config.write_text(site.config.read_text() + nova_conf(between.url))
        yield between


def added(site: Site, run: str) -> list[tuple[str, int]]:
    """Hosts, and how many aggregates their providers were put into, as the store has it."""
    (phase,) = site.call(f"runs show {run} -f json").document["phases"]
    found: list[dict[str, Any]] = [
        one for cell in phase["cells"] for one in cell["outcome"]["added"]
    ]
    return sorted((one["host"], len(one["aggregates"])) for one in found)


def test_a_run_that_is_left_to_workers_is_told_from_the_store(site: Site, relay: Relay) -> None:
    with site.worker() as worker:
        worker.serve()
        run = site.call(f"{SYNC} --detach").out.strip()
        assert site.call(f"runs wait {run}").code == 0
        assert added(site, run) == LACKING
        again = site.call(f"{SYNC} -f json")
        assert (again.code, again.document["added"]) == (0, [])
        site.cloud.rows(
            "nova_cell1", "UPDATE compute_nodes SET host = 'gone' WHERE host = 'cmp-c1-01'"
        )
        run = site.call(f"{SYNC} --detach --until 23:59").out.strip()
        assert site.call(f"runs wait {run}").code == 5
        assert (
            "cell1: The cell has no compute node for host cmp-c1-01"
            in site.call(f"runs show {run}").out
        )


def test_a_worker_that_is_killed_in_the_middle(site: Site, relay: Relay) -> None:
    held = relay.fail("PUT", "/aggregates$", held=True, times=1)
    with site.worker(name="doomed") as doomed:
        doomed.serve()
        run = site.call(f"{SYNC} --detach").out.strip()
        held.wait_until_reached()
        doomed.kill()
        assert not site.ended(run)
    relay.heal()
    with site.worker() as worker:
        worker.serve()
        assert site.until_ended(run) == 0
        # What was written in the very moment is there, and nobody's.
        assert {*added(site, run)} <= {*LACKING}
        assert site.call(f"{SYNC} -f json").document["added"] == []
