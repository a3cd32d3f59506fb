"""A command whose connection is cut at any one statement ends as if it had not been."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.acceptance.test_ironic_compute_node_move import DOWN, ONE_INSTANCE
from tests.connections.cut_cloud import CutCloud, State
from tests.connections.sample import cut_points
from tests.support.mysql_relay import Cut, MysqlRelay
from tests.support.program import Ended
from tests.support.realcloud import RealCloud
from tests.support.services import MariaDB
from tests.support.unmigrated import IN_CELL

API, CELL = RealCloud.api, RealCloud.cell1


MANY: Final = 4  # problems of one command, after which no more are looked for


@dataclass(frozen=True)
class Case:
    """A command.

    :ivar line: its words; names in braces are those of ``words``
    :ivar code: how it ends where nothing is cut
    :ivar prepare: statements before each run, each with the name of its database
    :ivar tells_steps: on standard error, where a step that is done again is told again
    :ivar adds_rows: to the cell, whose numbers show how often that was tried
    """

    line: str
    code: int
    prepare: tuple[tuple[str, str], ...] = ()
    tells_steps: bool = False
    adds_rows: bool = False


OF_SHADOW: Final = (CELL, "INSERT INTO shadow_instances SELECT * FROM instances WHERE deleted <> 0")
UNDISCOVERED: Final = (
    (API, "DELETE FROM host_mappings"),
    (CELL, "UPDATE compute_nodes SET mapped = 0"),
)
UNMAPPED: Final = (API, "DELETE FROM instance_mappings WHERE id % 2 = 0")
STOPPED: Final = (CELL, "UPDATE instances SET vm_state = 'stopped'")
# The last revision of the API database has no change; what an older one lacks is made again.
OLDER_API: Final = ((API, "UPDATE alembic_version SET version_num = 'd67eeaabee36'"),)
UNMIGRATED: Final = tuple((CELL, statement) for statement in IN_CELL)
MOVABLE: Final = ((CELL, DOWN), (CELL, ONE_INSTANCE))
EMPTY: Final = tuple(
    (API, f"DELETE FROM {table}")
    for table in ("host_mappings", "instance_mappings", "cell_mappings")
)
NEW_CELL: Final = (
    "--name new --transport-url rabbit://h/ --database_connection "
    "mysql+pymysql://n:n@127.0.0.1:1/new"
)

CASES: Final = (
    Case("db version", 0),
    Case("api_db version", 0),
    Case("db sync", 0, tells_steps=True),
    Case("db sync --all-cells", 0, tells_steps=True),
    Case("api_db sync", 0, tells_steps=True),
    Case("api_db sync", 0, OLDER_API, tells_steps=True),
    Case("db archive_deleted_rows --all-cells --until-complete --verbose", 1),
    Case("db archive_deleted_rows --max_rows 40 --repair", 1, (OF_SHADOW,)),
    Case("db archive_deleted_rows --all-cells --dry-run", 0),
    Case("db purge --all-cells --all --verbose", 0, (OF_SHADOW,)),
    Case("db online_data_migrations", 0, adds_rows=True),
    Case("db online_data_migrations --max-count 10", 1, adds_rows=True),
    Case("db online_data_migrations --all-cells", 0, UNMIGRATED, adds_rows=True),
    Case(
        "db ironic_compute_node_move --ironic-node-uuid {node} --destination-host cmp-c1-02",
        0,
        MOVABLE,
    ),
    Case("db purge --all-cells --before 2027-01-01", 0, (OF_SHADOW,)),
    Case("db purge --all-cells --all --dry-run", 3, (OF_SHADOW,)),
    Case("cell_v2 list_cells", 0),
    Case("cell_v2 list_hosts", 0),
    Case("cell_v2 list_hosts --cell_uuid {cell1}", 0),
    Case("cell_v2 map_cell0 --database_connection mysql+pymysql://n:n@127.0.0.1:1/cell0", 0),
    Case("cell_v2 create_cell " + NEW_CELL, 0),
    Case("cell_v2 update_cell --cell_uuid {cell1} --name other --keep-urls", 0),
    Case("cell_v2 delete_cell --cell_uuid {cell1} --force", 3),
    Case(
        "cell_v2 delete_cell --cell_uuid {cell1} --force",
        0,
        ((CELL, "UPDATE instances SET deleted = id"),),
    ),
    Case("cell_v2 delete_host --cell_uuid {cell1} --host {host}", 4),
    Case(
        "cell_v2 delete_host --cell_uuid {cell1} --host {host}",
        0,
        ((CELL, "UPDATE instances SET deleted = id"),),
    ),
    Case("cell_v2 discover_hosts --verbose", 0, UNDISCOVERED),
    Case("cell_v2 discover_hosts --by-service --verbose", 0, UNDISCOVERED),
    Case("cell_v2 map_instances --cell_uuid {cell1}", 0, (UNMAPPED,)),
    Case("cell_v2 map_instances --cell_uuid {cell1} --max-count 5", 1, (UNMAPPED,)),
    Case("cell_v2 map_instances --cell_uuid {cell1} --reset", 0, (UNMAPPED,)),
    Case("cell_v2 map_cell_and_hosts --transport-url rabbit://h/", 0, EMPTY),
    Case("cell_v2 simple_cell_setup --transport-url rabbit://h/", 0, EMPTY),
    Case("cell_v2 verify_instance --uuid {instance}", 0),
    Case("libvirt get_machine_type {instance}", 0),
    Case(
        "libvirt update_machine_type {instance} pc-q35-9.9 --force", 0, (STOPPED,), adds_rows=True
    ),
    Case("libvirt list_unset_machine_type", 3),
    Case("libvirt list_unset_machine_type --cell-uuid {cell1}", 3),
    Case("libvirt record_machine_types", 0, adds_rows=True),
    Case("check", 0),
    Case("metrics", 0),
)


MOMENTARY: Final = (
    r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9.]+ s (?:ahead of|behind) this host|[0-9.]+ s\b|[0-9.]+e\+\d+"
)
# What a table puts behind a momentary word, by the length of it.
PADDING: Final = "([ -])\\1+"


@pytest.fixture(scope="module")
def cut_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CutCloud]:
    with MariaDB() as server, MysqlRelay(server.port) as relay:
        yield CutCloud(server, relay, tmp_path_factory.mktemp("cut"))


def shown(case: Case, ended: Ended) -> str:
    """What a command printed, but for what differs each time."""
    printed = ended.out if case.tells_steps else ended.err + ended.out
    return re.sub(PADDING, r"\1", re.sub(MOMENTARY, "...", printed))


@dataclass(frozen=True)
class Uncut:
    """What a command does where nothing is cut.

    :ivar state: of the tables that are the same each time
    """

    ended: Ended
    said: int
    state: State

    @classmethod
    def observe(cls, cloud: CutCloud, case: Case, line: str) -> "Uncut":
        """Run it twice: what differs (a random uuid) is counted only."""
        states = []
        for _ in range(2):
            cloud.prepare(case.prepare)
            ended = cloud.run(line)
            states.append(cloud.state(numbered=not case.adds_rows))
        assert ended.code == case.code, ended
        first, second = states
        same = {name: state for name, state in second.items() if first[name] == state}
        assert {name: rows for name, (rows, _) in first.items()} == {
            name: rows for name, (rows, _) in second.items()
        }
        return cls(ended, len(cloud.relay.said), same)


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line)
def test_a_command_that_loses_its_connection_ends_as_if_it_had_not(
    cut_cloud: CutCloud, case: Case, cut: Cut
) -> None:
    line = case.line.format(**cut_cloud.words)
    uncut = Uncut.observe(cut_cloud, case, line)
    assert uncut.said > 1
    problems = []
    for number in cut_points(uncut.said, f"{case.line} {cut}"):
        cut_cloud.prepare(case.prepare)
        ended = cut_cloud.run(line, number, cut)
        if not cut_cloud.relay.has_cut:
            continue  # reading ahead, or another order of cells, took a statement less
        state = cut_cloud.state(numbered=not case.adds_rows)
        state = {name: value for name, value in state.items() if name in uncut.state}
        wrong = [name for name, value in state.items() if value != uncut.state[name]]
        if (ended.code, shown(case, ended)) != (
            uncut.ended.code,
            shown(case, uncut.ended),
        ) or wrong:
            statement = cut_cloud.relay.said[number].text[:200]
            problems.append(
                f"cut at {number}, {statement!r}: {ended.code} {ended.err!r} {ended.out!r} {wrong}"
            )
        assert len(problems) < MANY, "\n".join(problems)
    assert not problems, "\n".join(problems)
