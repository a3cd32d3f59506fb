"""The same commands in the process itself and through workers: same output, same exit code, same
rows left.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.integration.cells import add_nodes
from tests.support import unmigrated
from tests.support.command import call, until
from tests.support.hypervisors import UNSET, Hosts, forget, reachable
from tests.support.placement import Placement, nova_conf
from tests.support.realcloud import DATABASES, PLACEMENT, RealCloud
from tests.support.services import Redis
from tests.workers.fleet import Site, Worker, hooked

ARCHIVE: Final = "db archive_deleted_rows --all-cells"
MIGRATE: Final = "db online_data_migrations --all-cells"
DISCOVER: Final = "cell_v2 discover_hosts"
MAP: Final = "cell_v2 map_instances --cell_uuid {cell1}"
HEAL: Final = "placement heal_allocations --skip-port-allocations"
LIST_UNSET: Final = "libvirt list_unset_machine_type"
RECORD: Final = "libvirt record_machine_types"
API, CELL0, CELL1, CELL2, CELL3 = DATABASES
WITH_HOSTS: Final = (CELL1, CELL2, CELL3)

# Tables to which rows are added: of these, what a run cannot choose is left out, its times and
# numbers.
ADDED_TO: Final = {
    API: ("instance_mappings", "host_mappings"),
    **dict.fromkeys(WITH_HOSTS, ("instances", "compute_nodes", "instance_system_metadata")),
    PLACEMENT: ("allocations", "resource_providers", "projects", "users"),
}
CHOSEN_BY_SERVER: Final = "('id', 'created_at', 'updated_at', 'generation')"
# And of these, what such numbers stand for.
NUMBERED: Final = {
    (PLACEMENT, "consumers"): "SELECT c.uuid, p.external_id, u.external_id FROM consumers c "
    "JOIN projects p ON p.id = c.project_id JOIN users u ON u.id = c.user_id",
    (PLACEMENT, "placement_aggregates"): "SELECT uuid FROM placement_aggregates",
    (PLACEMENT, "resource_provider_aggregates"): "SELECT r.resource_provider_id, a.uuid "
    "FROM resource_provider_aggregates r JOIN placement_aggregates a ON a.id = r.aggregate_id",
}


class Outcome(NamedTuple):
    """All that an operator has of a command."""

    code: int
    out: str
    err: str
    rows: Any


def map_elsewhere(cell: str, url: Callable[[RealCloud], str]) -> Callable[[RealCloud], None]:
    """Give a cell's mapping another URL."""

    def prepare(cloud: RealCloud) -> None:
        cloud.rows(
            API,
            f"UPDATE cell_mappings SET database_connection = '{url(cloud)}' WHERE name = '{cell}'",
        )

    return prepare


def as_it_is(_: RealCloud) -> None:
    """Nothing to prepare."""


def share(cloud: RealCloud) -> None:
    """A share refers to the first and to the last deleted instance of cell1: they are blocked."""
    for end in ("MIN", "MAX"):
        cloud.rows(
            CELL1,
            "INSERT INTO share_mapping (uuid, instance_uuid, share_id, status, tag, "
            "export_location, share_proto) "
            "SELECT uuid, uuid, uuid, 'active', 'tag', 'nfs', 'NFS' FROM instances WHERE id = "
            f"(SELECT {end}(id) FROM instances WHERE deleted != 0)",
        )


def archived(cloud: RealCloud) -> None:
    """There are rows in the shadow tables."""
    for cell in (CELL0, CELL1, CELL3):
        for table in ("instance_id_mappings", "instance_faults", "task_log"):
            cloud.rows(cell, f"INSERT INTO shadow_{table} SELECT * FROM {table}")


def no_members(cloud: RealCloud) -> None:
    """A table of the API database is missing."""
    cloud.rows(API, "RENAME TABLE instance_group_member TO somewhere_else")


unknown_database = map_elsewhere("cell2", lambda cloud: cloud.url("nova_cell9"))
wrong_password = map_elsewhere(
    "cell1", lambda cloud: cloud.server.url(CELL1, password="nova-secret-of-old")
)
refuses = map_elsewhere(
    "cell3", lambda cloud: f"mysql+pymysql://nova:nova-secret@127.0.0.1:1/{CELL3}"
)
no_url = map_elsewhere("cell0", lambda _: "nonsense")


def everything_is_away(cloud: RealCloud) -> None:
    """No cell can be reached, each for a reason of its own."""
    for prepare in (unknown_database, wrong_password, refuses, no_url):
        prepare(cloud)


def two_are_away(cloud: RealCloud) -> None:
    """Two cells cannot be reached, the others can."""
    wrong_password(cloud)
    unknown_database(cloud)


def no_task_log(cloud: RealCloud) -> None:
    """No row is deleted without a date."""
    cloud.rows(CELL1, "UPDATE task_log SET deleted = 0")


def unmapped(cloud: RealCloud) -> None:
    """No instance is mapped."""
    cloud.rows(API, "DELETE FROM instance_mappings")


def new_hosts(cloud: RealCloud) -> None:
    """There are hosts that are not mapped."""
    for number, cell in enumerate(WITH_HOSTS, 1):
        add_nodes(cloud, cell, 10 * number, prefix=f"new-{cell[-1]}")
        cloud.rows(
            cell, "UPDATE compute_nodes SET uuid = hypervisor_hostname WHERE host LIKE 'new-%'"
        )


def all_discovered(cloud: RealCloud) -> None:
    """All hosts are mapped."""
    for cell in WITH_HOSTS:
        cloud.rows(
            cell,
            f"INSERT IGNORE INTO {cloud.api}.host_mappings (host, cell_id) SELECT DISTINCT host, "
            f"(SELECT id FROM {cloud.api}.cell_mappings WHERE uuid = "
            f"'{cloud.uuids[cell.removeprefix('nova_')]}') "
            "FROM compute_nodes WHERE deleted = 0",
        )
        cloud.rows(cell, "UPDATE compute_nodes SET mapped = 1")


def with_types(cloud: RealCloud) -> None:
    """All instances have machine types."""
    for cell in WITH_HOSTS:
        cloud.rows(
            cell,
            "INSERT INTO instance_system_metadata (instance_uuid, `key`, value, deleted) SELECT "
            "uuid, "
            "'image_hw_machine_type', 'pc', 0 FROM instances WHERE uuid IN "
            f"({UNSET.replace('ORDER BY id', '')})",
        )


def without_types(cloud: RealCloud) -> None:
    """Every second instance has no machine type."""
    forget(cloud, *WITH_HOSTS)


def after(*preparations: Callable[[RealCloud], None]) -> Callable[[RealCloud], None]:
    """Several things that are done to a cloud, in this order."""

    def prepare(cloud: RealCloud) -> None:
        for one in preparations:
            one(cloud)

    return prepare


def state(cloud: RealCloud) -> dict[tuple[str, str], Any]:
    """All rows of all databases, by database and table."""
    found: dict[tuple[str, str], Any] = dict(cloud.checksums())
    queries = {
        (name, table): _query(cloud, name, table)
        for name, tables in ADDED_TO.items()
        for table in tables
    }
    for (name, table), query in (queries | NUMBERED).items():
        found[name, table] = sorted(map(str, cloud.rows(name, query)))
    return found


def _query(cloud: RealCloud, name: str, table: str) -> str:
    columns = cloud.rows(
        name,
        "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() "
        f"AND table_name = '{table}' AND column_name NOT IN {CHOSEN_BY_SERVER} ORDER BY "
        "ordinal_position",
    )
    return f"SELECT {', '.join(f'`{column}`' for (column,) in columns)} FROM {table}"


class Scenario(NamedTuple):
    """A command to be carried out by both.

    :ivar line: with the UUIDs of cells by their names
    :ivar prepare: what is done to the cloud before
    :ivar code: the exit code
    :ivar look: what is to be the same afterwards
    :ivar in_order: whether lines have an order; otherwise it is Placement's, which changes from
        answer to answer
    """

    line: str
    prepare: Callable[[RealCloud], None]
    code: int
    look: Callable[[RealCloud], Any] = state
    in_order: bool = True


# By what it is about.
ARCHIVE_AND_PURGE: Final = {
    "until complete": Scenario(f"{ARCHIVE} --until-complete --max_rows 300 --verbose", as_it_is, 1),
    "a total": Scenario(f"{ARCHIVE} --max_rows 100 --verbose", as_it_is, 1),
    "a total over several cells": Scenario(f"{ARCHIVE} --max_rows 1600 --verbose", as_it_is, 1),
    "no rows at all": Scenario(f"{ARCHIVE} --max_rows 0 --verbose", as_it_is, 0),
    "by date, as data": Scenario(
        f"{ARCHIVE} --before 2026-08-01 --task-log --until-complete -f json", as_it_is, 1
    ),
    "nothing to do": Scenario(
        f"{ARCHIVE} --before 2000-01-01 --until-complete --verbose --purge", no_task_log, 0
    ),
    "archive and purge": Scenario(f"{ARCHIVE} --until-complete --purge -f json", as_it_is, 1),
    "a look at what would be archived": Scenario(
        f"{ARCHIVE} --dry-run --before 2026-08-01", as_it_is, 0
    ),
    "purge": Scenario("db purge --all --all-cells --verbose", archived, 0),
    "purge by date": Scenario("db purge --before 2026-08-01 --all-cells -f json", archived, 0),
    "a look at what would be purged": Scenario("db purge --all --all-cells --dry-run", archived, 3),
    "nothing to purge": Scenario("db purge --all --all-cells --verbose", as_it_is, 3),
    "two cells away": Scenario(f"{ARCHIVE} --until-complete --verbose", two_are_away, 255),
    "no cell at all": Scenario(f"{ARCHIVE} --until-complete -f json", everything_is_away, 255),
    "purge without one cell": Scenario("db purge --all --all-cells --verbose", refuses, 255),
    "a look without one cell": Scenario(f"{ARCHIVE} --dry-run", refuses, 255),
    "a broken API database": Scenario(f"{ARCHIVE} --until-complete", no_members, 3),
    "a total, as data": Scenario(f"{ARCHIVE} --max_rows 100 -f json", as_it_is, 1),
    "a total and a later cell that refuses": Scenario(f"{ARCHIVE} --max_rows 100", refuses, 255),
}

MIGRATIONS: Final = {
    name: Scenario(line, prepare, code, unmigrated.look)
    for name, (line, prepare, code) in {
        "migrations": (f"{MIGRATE} --verbose", unmigrated.put_back, 0),
        "migrations, as data": (f"{MIGRATE} -f json", unmigrated.put_back, 0),
        "migrations with a total": (f"{MIGRATE} --max-count 40", unmigrated.put_back, 1),
        "migrations with a total over several cells": (
            f"{MIGRATE} --max-count 900",
            unmigrated.put_back,
            1,
        ),
        "few migrations are due": (f"{MIGRATE} --max-count 50", as_it_is, 1),
        "migrations, two cells away": (MIGRATE, after(unmigrated.put_back, two_are_away), 2),
        "migrations with a total, the first cell refuses": (
            f"{MIGRATE} --max-count 40",
            after(unmigrated.put_back, no_url),
            1,
        ),
        "migrations with a total, a later cell refuses": (
            f"{MIGRATE} --max-count 40",
            after(unmigrated.put_back, refuses),
            1,
        ),
        "migrations, no cell at all": (f"{MIGRATE} -f json", everything_is_away, 2),
    }.items()
}
MAPPINGS: Final = {
    "map instances": Scenario(f"{MAP} -f json", unmapped, 0),
    "map some instances": Scenario(f"{MAP} --max-count 7", unmapped, 1),
    "map no instance": Scenario(MAP, as_it_is, 0),
    "map instances of a cell that refuses": Scenario(MAP, after(unmapped, wrong_password), 255),
    "discover hosts": Scenario(f"{DISCOVER} --verbose --strict", new_hosts, 0),
    "discover hosts, as data": Scenario(f"{DISCOVER} -f json", new_hosts, 0),
    "discover hosts by service": Scenario(f"{DISCOVER} --by-service --verbose", new_hosts, 0),
    "discover no host": Scenario(f"{DISCOVER} --strict --verbose", all_discovered, 1),
    "discover hosts, two cells away": Scenario(
        f"{DISCOVER} --verbose", after(new_hosts, two_are_away), 1
    ),
    "discover hosts, one cell refuses": Scenario(
        f"{DISCOVER} --strict", after(new_hosts, refuses), 1
    ),
}
ALLOCATIONS: Final = {
    "heal": Scenario(f"{HEAL} --verbose", as_it_is, 0),
    "heal, as data": Scenario(f"{HEAL} -f json", as_it_is, 0),
    "heal some": Scenario(f"{HEAL} --max-count 4 --verbose", as_it_is, 1),
    "a look at what would be healed": Scenario(f"{HEAL} --dry-run -f json", as_it_is, 4),
    "heal, two cells away": Scenario(f"{HEAL} --verbose", two_are_away, 255),
    "heal some, a later cell refuses": Scenario(f"{HEAL} --max-count 2", refuses, 1),
    "heal some, the first cell refuses": Scenario(f"{HEAL} --max-count 2", wrong_password, 255),
    "heal, no cell at all": Scenario(f"{HEAL} -f json", everything_is_away, 255),
    "audit": Scenario("placement audit --verbose", as_it_is, 3, in_order=False),
    "audit, one cell refuses": Scenario("placement audit --verbose", refuses, 1, in_order=False),
    "aggregates": Scenario("placement sync_aggregates --verbose", as_it_is, 0),
    "aggregates, two cells away": Scenario("placement sync_aggregates", two_are_away, 255),
}
MACHINE_TYPES: Final = {
    "instances without machine types": Scenario(LIST_UNSET, without_types, 3),
    "all have machine types": Scenario(LIST_UNSET, with_types, 0),
    "instances without machine types in one cell": Scenario(
        f"{LIST_UNSET} --cell-uuid {{cell2}} -f json", without_types, 3
    ),
    "instances without machine types, one cell refuses": Scenario(
        LIST_UNSET, after(without_types, refuses), 1
    ),
    "instances without machine types, two cells away": Scenario(
        f"{LIST_UNSET} -f json", after(without_types, two_are_away), 1
    ),
    "a look at machine types": Scenario(f"{RECORD} --dry-run", without_types, 3),
    "record machine types": Scenario(f"{RECORD} -f json", without_types, 3),
    "record machine types, one cell refuses": Scenario(RECORD, after(without_types, refuses), 1),
}
SCENARIOS: Final = ARCHIVE_AND_PURGE | MIGRATIONS | MAPPINGS | ALLOCATIONS | MACHINE_TYPES


def by_both(site: Site, scenario: Scenario) -> tuple[Outcome, Outcome]:
    """What becomes of a command in the process itself, and through workers, each on the same
    cloud.
    """
    inline = site.config.with_name("inline.conf")
    inline.write_text(site.config.read_text().replace("broker_url", "# broker_url"))
    return outcome(site, inline, scenario), outcome(site, site.config, scenario)


def outcome(site: Site, config: Path, scenario: Scenario) -> Outcome:
    site.cloud.restore()
    scenario.prepare(site.cloud)
    runs = len(site.store.recent())
    ended = call(scenario.line.format(**site.cloud.uuids), config=config, env=hooked())
    assert len(site.store.recent()) == runs + (config == site.config)
    out = json.dumps(timeless(ended.document)) if "-f json" in scenario.line else ended.out
    err = ended.err
    if not scenario.in_order:
        out, err = ("\n".join(sorted(text.splitlines())) for text in (out, err))
    return Outcome(ended.code, out, err, scenario.look(site.cloud))


def timeless(document: Any) -> Any:
    """A document without the seconds that something took."""
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if key != "seconds"}
    return [timeless(value) for value in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def shared_site(
    loaded_placed_cloud: RealCloud,
    cloud_placement_server: Placement,
    broker: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    """The cloud with its Placement and its hypervisors."""
    folder = tmp_path_factory.mktemp("site")
    site = Site(loaded_placed_cloud, broker, folder, slice_seconds=1.0)
    hosts = Hosts(folder)
    loaded_placed_cloud.restore()
    hosts.have_all(loaded_placed_cloud, *WITH_HOSTS)
    reachable(site.config, hosts.template)
    site.config.write_text(site.config.read_text() + nova_conf(cloud_placement_server.url))
    return site


@pytest.fixture(scope="module")
def site(shared_site: Site, shared_worker: Worker) -> Site:
    """A cloud with a worker that serves it; a test puts it into its state itself."""
    return shared_site


def assert_both_do_the_same(site: Site, scenario: Scenario) -> None:
    inline, workers = by_both(site, scenario)
    assert workers._replace(rows={}) == inline._replace(rows={})
    assert workers.rows == inline.rows
    assert inline.code == scenario.code


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_engines_do_the_same(site: Site, name: str) -> None:
    assert_both_do_the_same(site, SCENARIOS[name])


def test_both_engines_print_the_same_dots(site: Site) -> None:
    assert_both_do_the_same(
        site, Scenario(f"{ARCHIVE} --until-complete --purge --verbose", as_it_is, 1)
    )


def test_a_blocked_tree_is_told_once_however_many_slices_there_are(
    realcloud: RealCloud, broker: Redis, tmp_path: Path
) -> None:
    site = Site(realcloud, broker, tmp_path, database=1, slice_seconds=0.1)
    share(realcloud)
    with site.worker() as worker:
        worker.serve()
        run = site.call(f"{ARCHIVE} --until-complete --detach").out.strip()
        until(lambda: site.ended(run) or blocked(site, run) > 2)
        site.call(f"runs cancel {run}")
        site.until_ended(run)
    assert blocked(site, run) == 2
    assert site.rows(run, "cell1") > 1000


def blocked(site: Site, run: str) -> int:
    """How often a run told of a tree that it left."""
    return sum((cell.outcome or {}).get("blocked_count", 0) for cell in site.cells(run).values())


def test_without_an_api_database_nobody_is_asked(site: Site) -> None:
    site.cloud.restore()
    text = site.config.read_text()
    broken = site.config.with_name("broken.conf")
    broken.write_text(re.sub(r"/nova_api$", "/nova_api_of_old", text, flags=re.MULTILINE))
    before = site.store.recent()
    for line, code in (
        (ARCHIVE, 3),
        ("db purge --all --all-cells", 4),
        (f"{ARCHIVE} --dry-run --detach", 3),
    ):
        ended = call(line, config=broken, env=hooked())
        assert (ended.code, ended.out) == (code, "")
        assert "the API database" in ended.line
    assert site.store.recent() == before
