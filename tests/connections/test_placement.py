"""Commands of Placement whose connection to a database is cut at any one statement."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.connections.sample import cut_points
from tests.support.command import call_here
from tests.support.mysql_relay import Cut, MysqlRelay
from tests.support.placement import Placement, nova_conf
from tests.support.services import HOST
from tests.support.small_cloud import flavor
from tests.support.two_cells import TwoCells

NODES: Final = {
    "cell1": "cccccccc-0000-4000-8000-000000000001",
    "cell2": "cccccccc-0000-4000-8000-000000000002",
}
AGGREGATE: Final = "aaaaaaaa-0000-4000-8000-000000000001"
BARE: Final = "11111111-0000-4000-8000-00000000000{}"
NOBODY: Final = "ffffffff-0000-4000-8000-000000000001"
INVENTORY: Final = {"VCPU": 640, "MEMORY_MB": 65536, "DISK_GB": 1000}
LINES: Final = {
    "placement heal_allocations --skip-port-allocations --verbose": 0,
    "placement heal_allocations --skip-port-allocations --dry-run": 4,
    "placement heal_allocations --skip-port-allocations --max-count 1": 1,
    f"placement heal_allocations --skip-port-allocations --instance {BARE.format(2)}": 0,
    "placement audit --verbose": 3,
    f"placement audit --resource_provider {NODES['cell1']}": 3,
    "placement audit --delete --verbose": 4,
    "placement sync_aggregates --verbose": 0,
}


@dataclass(frozen=True)
class Bed:
    """Two cells, each with an instance that has no allocations; a consumer that is nobody's; hosts
    in an aggregate.
    """

    cells: TwoCells
    placement: Placement
    relay: MysqlRelay
    config: Path

    def prepare(self) -> None:
        """Make it so, whatever was there."""
        self.cells.empty()
        self.placement.empty()
        for number, (cell, node) in enumerate(NODES.items(), 1):
            host, instance = f"host{number}", BARE.format(number)
            self.cells.node(cell, node, host)
            self.cells.map_host(host, cell)
            self.cells.instance(cell, instance, host, project_id="p1", user_id="u1")
            self.cells.equip(cell, instance, flavor())
            self.cells.map_instance(instance, cell)
            self.placement.provide(node, host, INVENTORY)
        self.placement.allocate(NOBODY, {NODES["cell1"]: {"VCPU": 1}}, "p1", "u1")
        self.cells.aggregate(AGGREGATE, "one", "host1", "host2")
        self.cells.reach_by(self.relay.port)

    def run(
        self, line: str, cut_at: int | None = None, cut: Cut = Cut.BEFORE
    ) -> tuple[int, str, object]:
        """Run a command; returns how it ends, what it prints, and what Placement then knows."""
        self.prepare()
        self.relay.reset(cut_at, cut)
        ended = call_here(line, config=self.config)
        return (
            ended.code,
            ended.err + "".join(sorted(ended.out.splitlines(keepends=True))),
            (self.placement.all_allocations(), self.placement.all_aggregates()),
        )


@pytest.fixture
def bed(two_cells: TwoCells, placement: Placement, tmp_path: Path) -> Iterator[Bed]:
    with MysqlRelay(two_cells.server.port) as relay:
        config = two_cells.config(tmp_path, nova_conf(placement.url))
        detour = f"@{HOST}:{two_cells.server.port}/", f"@{HOST}:{relay.port}/"
        config.write_text(config.read_text().replace(*detour))
        yield Bed(two_cells, placement, relay, config)


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
@pytest.mark.parametrize("line", LINES)
def test_a_command_of_placement_ends_as_if_no_line_had_been_lost(
    bed: Bed, line: str, cut: Cut
) -> None:
    uncut = bed.run(line)
    assert uncut[0] == LINES[line], uncut
    assert bed.run(line) == uncut
    packets = len(bed.relay.said)
    assert packets > 10
    problems = []
    for number in cut_points(packets, f"{line} {cut}"):
        ended = bed.run(line, number, cut)
        if bed.relay.has_cut and ended != uncut:
            problems.append(f"cut at {number}, {bed.relay.said[number].text[:200]!r}: {ended}")
    assert not problems, "\n".join(problems)
