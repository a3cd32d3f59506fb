"""``cellkeeper check``: what is well, what is not, and that nothing keeps it waiting."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from redis import Redis as Client

from runs.redis_store import RedisStore
from schedules.entries import Entry, ParsedCommand
from schedules.firings import Firings, firing_key
from tests.support.command import Ended, call
from tests.support.realcloud import RealCloud
from tests.support.services import MariaDB, Redis

SCHEDULE: Final = "\n[schedule]\nenabled = nightly_archive, weekly_purge\n"
READER: Final = "reader"


class Site(NamedTuple):
    """A cloud with a Redis, in which signs of life can be put."""

    cloud: RealCloud
    config: Path
    store: RedisStore
    firings: Firings

    def check(self, words: str = "", **env: str) -> Ended:
        return call(f"check {words}", config=self.config, env=env)

    def live(self, *cells: str) -> None:
        """Signs of life of a beat, and of a worker that serves these cells; all of them unless
        named.
        """
        self.store.show_alive("worker", [self.cloud.uuids[cell] for cell in cells] or None, 60)
        self.firings.show_alive("beat", 60)


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    with Redis(password="redis-secret") as server:
        yield server


@pytest.fixture
def site(untouched: RealCloud, broker: Redis, tmp_path: Path) -> Site:
    broker.execute("FLUSHALL")
    config = untouched.config(tmp_path)
    config.write_text(f"{config.read_text()}[celery]\nbroker_url = {broker.url()}\n{SCHEDULE}")
    client = Client.from_url(broker.url(), decode_responses=True)
    return Site(untouched, config, RedisStore(client, 3600), Firings(client))


def problems(ended: Ended) -> dict[tuple[str, str], str]:
    """What failed, by where and what."""
    found = ended.document["findings"]
    return {
        (one["where"], one["what"]): one["detail"] for one in found if one["verdict"] == "failed"
    }


def test_all_is_well(site: Site) -> None:
    site.live()
    before = site.cloud.checksums()
    ended = site.check("-f json")
    assert (ended.code, ended.err, problems(ended)) == (0, "", {})
    assert ended.document["exit_code"] == 0
    cells = {cell["cell"]: cell for cell in ended.document["cells"]}
    assert cells["cell1"]["deleted_rows_by_table"]["instances"] == 53
    assert cells["cell1"]["oldest"].startswith("20")
    assert cells["cell1"]["schema"].startswith("alembic_version ")
    said = {(one["where"], one["what"]) for one in ended.document["findings"]}
    assert {
        ("API database", "grants"),
        ("Redis", "clock"),
        ("schedule", "beats"),
        ("cell3", "clock"),
    } <= said
    assert site.cloud.checksums() == before


def test_the_table_has_a_line_for_each_cell_and_for_each_problem(site: Site) -> None:
    site.live("cell0", "cell1", "cell2")
    ended = site.check()
    assert (ended.code, ended.err) == (1, "")
    lines = [
        [word.strip() for word in line.split("|")[1:-1]]
        for line in ended.out.splitlines()
        if "| cell" in line
    ]
    backlogs = [line[0] for line in lines if line[1] == "backlog"]
    assert backlogs == ["cell0", "cell1", "cell2", "cell3"]
    assert [
        "cell3",
        "workers",
        "failed",
        "none serves it: start one with: cellkeeper worker",
    ] in lines


def test_without_a_broker_workers_and_schedule_are_not_asked_for(
    untouched: RealCloud, tmp_path: Path
) -> None:
    ended = call("check -f json", config=untouched.config(tmp_path))
    assert (ended.code, problems(ended)) == (0, {})
    assert {one["where"] for one in ended.document["findings"]} == {
        "configuration", "API database", "all servers", "cell0", "cell1", "cell2", "cell3",
    }  # fmt: skip


def test_the_sample_cloud_on_sqlite(untouched_sample: Path) -> None:
    ended = call("check -f json", config=untouched_sample)
    assert (ended.code, problems(ended)) == (0, {})


def throttle_findings(ended: Ended) -> list[tuple[str, str, str]]:
    return [
        (one["where"], one["verdict"], one["detail"])
        for one in ended.document["findings"]
        if one["what"] == "throttle"
    ]


def test_the_signals_in_force_are_named(untouched: RealCloud, tmp_path: Path) -> None:
    config = untouched.config(tmp_path)
    assert throttle_findings(call("check -f json", config=config)) == [
        ("all servers", "ok", "threads_running")
    ]
    config.write_text(
        f"{config.read_text()}[throttle]\nmax_threads_running = 0\nmax_history_list = 1000000\n"
    )
    assert throttle_findings(call("check -f json", config=config)) == [
        ("all servers", "ok", "history_list")
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "replica = nowhere mysql://nova:secret-word@db2/nova",
            "replica in section [throttle]: there is no cell nowhere",
        ),
        (
            "query = SELECT 1",
            "max_query in section [throttle]: query takes a number here from which on the work "
            "pauses",
        ),
    ],
)
def test_a_throttle_that_does_not_do_what_is_meant_is_found(
    untouched: RealCloud, tmp_path: Path, line: str, words: str
) -> None:
    config = untouched.config(tmp_path)
    config.write_text(f"{config.read_text()}[throttle]\n{line}\n")
    ended = call("check -f json", config=config)
    assert ended.code == 1
    assert problems(ended) == {("configuration", "throttle"): words}


@pytest.mark.parametrize(
    ("env", "where", "what", "said"),
    [
        ({"OS_API_DATABASE__CONNECTION": ""}, "API database", "database", "No database is "
        "configured"),
        (
            {"OS_API_DATABASE__CONNECTION": "mysql+pymysql://nova:nova-secret@127.0.0.1:1/nova_api"},
            "API database", "database", "cannot connect",
        ),
        ({"OS_API_DATABASE__CONNECTION": "{wrong}"}, "API database", "database", "Access denied for user 'nova'"),
        ({"OS_CELERY__BROKER_URL": "redis://127.0.0.1:1/0"}, "Redis", "Redis", "Connection refused"),
        ({"OS_SCHEDULE__ENABLED": "mine"}, "schedule", "entry", "mine: it has no cron"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    site: Site, env: dict[str, str], where: str, what: str, said: str
) -> None:
    site.live()
    wrong = site.cloud.url(site.cloud.api).replace(MariaDB.PASSWORD, "wrong-secret")
    ended = site.check(
        "-f json", **{name: value.format(wrong=wrong) for name, value in env.items()}
    )
    assert (ended.code, ended.err) == (1, "")
    assert "wrong-secret" not in ended.out
    assert list(problems(ended)) == [(where, what)]
    assert (ended.document["api_database"]["lacking_grants"] is None) == (where == "API database")
    assert said in problems(ended)[where, what]


def test_without_a_beat_and_a_worker(site: Site) -> None:
    ended = site.check("-f json")
    assert ended.code == 1
    cells = [(f"cell{number}", "workers") for number in range(4)]
    assert list(problems(ended)) == [("schedule", "beats"), *cells]


# -- cells that are not as they should be ----------------------------------------------------------


def reader(cloud: RealCloud, cell: str) -> str:
    """The URL of a cell for a user who may only read."""
    cloud.server.execute(
        f"CREATE USER IF NOT EXISTS {READER}@'%' IDENTIFIED BY '{MariaDB.PASSWORD}'"
    )
    cloud.server.execute(f"GRANT SELECT ON `{cell}`.* TO {READER}@'%'")
    return cloud.server.url(cell, user=READER)


def move(cloud: RealCloud, cell: str, url: str) -> None:
    """Give the mapping of a cell another URL."""
    cloud.rows(
        cloud.api, f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = '{cell}'"
    )


def test_cells_that_are_not_as_they_should_be(realcloud: RealCloud, tmp_path: Path) -> None:
    move(realcloud, "cell0", realcloud.url("nova_cell9"))
    move(realcloud, "cell1", realcloud.url(realcloud.api))
    move(realcloud, "cell2", reader(realcloud, realcloud.cell2))
    realcloud.rows(realcloud.cell3, "ALTER TABLE shadow_instances DROP COLUMN locked_by")
    ended = call("check -f json", config=realcloud.config(tmp_path))
    found = problems(ended)
    assert ended.code == 1
    assert {where for where, _ in found} == {"cell0", "cell1", "cell2", "cell3"}
    assert "Unknown database" in found["cell0", "database"]
    assert "no table to archive: is it a cell's database?" in found["cell1", "shadow tables"]
    assert "is of the other schema" in found["cell1", "schema"]
    assert found["cell2", "grants"].startswith(
        "missing: DELETE on instances, INSERT on shadow_instances, DELETE on shadow_instances. The "
        "server says: DELETE "
        "command denied to user 'reader'"
    )
    assert "shadow_instances lacks the columns locked_by" in found["cell3", "shadow tables"]


def test_a_signal_that_the_user_may_not_read_names_the_grant(
    realcloud: RealCloud, tmp_path: Path
) -> None:
    move(realcloud, "cell0", reader(realcloud, realcloud.cell0))
    ended = call(
        "check -f json", config=realcloud.config(tmp_path), env={"OS_THROTTLE__MAX_LAG": "1"}
    )
    (in_force, unknown) = throttle_findings(ended)
    assert in_force == ("all servers", "ok", "threads_running")
    words = (
        "the database user may not look at it; allow it by: GRANT REPLICATION MASTER ADMIN ON "
        "*.* TO USER"
    )
    assert unknown == (
        f"127.0.0.1:{realcloud.server.port}",
        "warning",
        f"replica_lag is unknown: {words}",
    )


def archiver(cloud: RealCloud, *cells: str) -> None:
    """Give these cells a user who may archive and purge, and nothing else."""
    cloud.server.execute(
        f"CREATE USER IF NOT EXISTS archiver@'%' IDENTIFIED BY '{MariaDB.PASSWORD}'"
    )
    for cell in cells:
        cloud.server.execute(f"GRANT SELECT, INSERT, DELETE ON `nova_{cell}`.* TO archiver@'%'")
        move(cloud, cell, cloud.server.url(f"nova_{cell}", user="archiver"))


def test_grants_for_archiving_alone_are_enough_and_the_rest_is_told(
    realcloud: RealCloud, tmp_path: Path
) -> None:
    archiver(realcloud, "cell1", "cell3")
    ended = call("check -f json", config=realcloud.config(tmp_path))
    assert (ended.code, problems(ended)) == (0, {})
    cells = {cell["cell"]: cell["lacking_grants"] for cell in ended.document["cells"]}
    assert cells["cell0"] == {}
    assert (
        cells["cell1"]
        == cells["cell3"]
        == {
            "db online_data_migrations": ["UPDATE on instances"],
            "cell_v2 discover_hosts": ["UPDATE on compute_nodes"],
            "libvirt record_machine_types": [
                "UPDATE on instances",
                "UPDATE on instance_system_metadata",
            ],
        }
    )
    table = call("check", config=realcloud.config(tmp_path)).out
    short = (
        "not for db online_data_migrations, cell_v2 discover_hosts, libvirt record_machine_types"
    )
    assert f"| {short}: cell1, cell3 " in table
    found = [
        one["detail"]
        for one in ended.document["findings"]
        if (one["where"], one["what"]) == ("cell1", "grants")
    ]
    assert found == [f"enough for db archive_deleted_rows, db purge; {short}"]
    archiver(realcloud, *realcloud.uuids)
    assert f"| {short}: all cells " in call("check", config=realcloud.config(tmp_path)).out


def test_a_server_that_is_read_only_tells_nothing_of_grants(
    realcloud: RealCloud, tmp_path: Path
) -> None:
    archiver(realcloud, "cell1")
    realcloud.server.execute("SET GLOBAL read_only = 1")
    try:
        found = problems(call("check -f json", config=realcloud.config(tmp_path)))
    finally:
        realcloud.server.execute("SET GLOBAL read_only = 0")
    assert {what for _, what in found} == {"writable"}
    assert len(found) == 5


def test_a_schedule_whose_last_firing_lies_in_the_future_is_a_failure(
    site: Site, broker: Redis
) -> None:
    site.live()
    nightly = Entry(
        "nightly_archive",
        "0 2 * * *",
        (),
        ParsedCommand("db archive_deleted_rows", {}),
        ZoneInfo("UTC"),
    )
    tomorrow = site.firings.now() + timedelta(days=1)
    firing = {"nominal": int(tomorrow.timestamp()), "state": "started", "run": "", "reason": ""}
    Client.from_url(broker.url()).hset(firing_key(nightly), mapping=firing)
    ended = site.check("-f json")
    assert ended.code == 1
    (problem,) = problems(ended).values()
    assert problem.startswith(
        f"nightly_archive: its last firing lies in the future, {tomorrow:%Y-%m-%d %H:%M:%S} UTC"
    )
    listed = call("schedule list", config=site.config)
    assert (listed.code, listed.line) == (
        0, "nightly_archive: its last firing lies in the future: a clock was wrong",
    )  # fmt: skip


def test_a_beat_that_starts_nothing_is_a_failure(site: Site) -> None:
    site.live()
    problem = "the clock of its host is 86,400 s ahead of that of Redis: set both by NTP"
    site.firings.show_alive("controller2:7", 60, problem)
    ended = site.check("-f json")
    assert ended.code == 1
    assert problems(ended) == {("schedule", "beats"): f"controller2:7 starts nothing: {problem}"}
    listed = call("schedule list -f json", config=site.config)
    assert (listed.code, listed.line) == (0, f"controller2:7 starts nothing: {problem}")
    assert listed.document["beats"] == ["beat"]
    assert listed.document["beats_that_start_nothing"] == {"controller2:7": problem}


def test_grants_must_be_enough_for_what_is_scheduled(
    realcloud: RealCloud, broker: Redis, tmp_path: Path
) -> None:
    """A schedule that does not archive asks for no grants of the archive, nor for shadow tables."""
    config = realcloud.config(tmp_path)
    schedule = (
        "[schedule]\nenabled = hosts\n[schedule_hosts]\ncron = * * * * *\ncommand = "
        "cell_v2 "
        "discover_hosts\n"
    )
    config.write_text(f"{config.read_text()}[celery]\nbroker_url = {broker.url()}\n{schedule}")
    archiver(realcloud, "cell1")
    realcloud.server.execute(f"CREATE USER discoverer@'%' IDENTIFIED BY '{MariaDB.PASSWORD}'")
    realcloud.server.execute(f"GRANT SELECT ON {realcloud.cell2}.services TO discoverer@'%'")
    realcloud.server.execute(
        f"GRANT SELECT, UPDATE ON {realcloud.cell2}.compute_nodes TO discoverer@'%'"
    )
    move(realcloud, "cell2", realcloud.server.url(realcloud.cell2, user="discoverer"))
    ended = call("check -f json", config=config)
    found = problems(ended)
    assert {where for where, what in found if what != "workers"} == {"schedule", "cell1"}
    assert found["cell1", "grants"].startswith(
        "missing: UPDATE on compute_nodes. The server says: UPDATE command denied to user "
        "'archiver'"
    )
    verdict, detail = schemas(ended)["cell2"]
    assert verdict == "warning"
    assert detail.startswith(
        "its version cannot be read, SELECT on alembic_version is enough for that: SELECT command"
    )


def schemas(ended: Ended) -> dict[str, tuple[str, str]]:
    """Verdict and detail of the schemas, by where."""
    found = ended.document["findings"]
    return {
        one["where"]: (one["verdict"], one["detail"]) for one in found if one["what"] == "schema"
    }


def test_a_schema_that_an_upgrade_would_bring_on_is_pointed_out(
    realcloud: RealCloud, tmp_path: Path
) -> None:
    version = "UPDATE alembic_version SET version_num = '{}'"
    realcloud.rows(realcloud.api, version.format("b30f573d3377"))
    realcloud.rows(realcloud.cell1, version.format("13863f4e1612"))
    realcloud.rows(realcloud.cell2, version.format("ab450ba04102"))
    realcloud.rows(realcloud.cell3, version.format("0123456789ab"))
    ended = call("check -f json", config=realcloud.config(tmp_path))
    found = schemas(ended)
    assert (ended.code, problems(ended)) == (0, {})
    assert found["API database"] == (
        "warning",
        "alembic_version b30f573d3377 (Nova 25 to 27) is behind cdeec0c85668 (Nova 28 to 34) by 1: "
        "if Nova has been upgraded, cellkeeper api_db sync is due",
    )
    assert found["cell1"] == (
        "warning",
        "alembic_version 13863f4e1612 (Nova 29 to 30) is behind ab450ba04102 (Nova 34) by 3: "
        "if Nova has been upgraded, cellkeeper db sync --all-cells is due",
    )
    assert found["cell0"] == (
        "warning",
        "alembic_version 2903cd72dc14 (Nova 31 to 33) is behind ab450ba04102 (Nova 34) by 1: "
        "if Nova has been upgraded, cellkeeper db sync --all-cells is due",
    )
    assert found["cell2"] == ("ok", "alembic_version ab450ba04102 (Nova 34)")
    assert found["cell3"][0] == "warning"
    assert (
        "revision 0123456789ab, which this version of cellkeeper does not know" in found["cell3"][1]
    )
    pending = {cell["cell"]: cell["schema_pending"] for cell in ended.document["cells"]}
    newest = ["d60bddf7a903", "2903cd72dc14", "ab450ba04102"]
    assert pending == {"cell0": newest[2:], "cell1": newest, "cell2": [], "cell3": []}


def test_a_schema_from_before_alembic_and_one_without_a_version(
    realcloud: RealCloud, tmp_path: Path
) -> None:
    for cell, number in {realcloud.cell1: 417, realcloud.cell2: 391}.items():
        realcloud.rows(cell, "DROP TABLE alembic_version")
        realcloud.rows(
            cell, "CREATE TABLE migrate_version (repository_id VARCHAR(250), version INT)"
        )
        realcloud.rows(cell, f"INSERT INTO migrate_version VALUES ('nova', {number})")
    realcloud.rows(realcloud.cell3, "DELETE FROM alembic_version")
    realcloud.rows(realcloud.cell0, "INSERT INTO alembic_version VALUES ('13863f4e1612')")
    ended = call("check -f json", config=realcloud.config(tmp_path))
    found = schemas(ended)
    assert (ended.code, problems(ended)) == (0, {})
    assert {verdict for where, (verdict, _) in found.items() if where != "API database"} == {
        "warning"
    }
    assert (
        "has the rows 13863f4e1612, 2903cd72dc14: leave the latest of them alone"
        in found["cell0"][1]
    )
    behind = "migrate_version 417 (before Nova 24) is behind ab450ba04102 (Nova 34) by "
    assert found["cell1"][1].startswith(behind)
    assert "version 391 of sqlalchemy-migrate" in found["cell2"][1]
    assert found["cell3"][1] == "the database names no version: was it made by db sync?"


def test_cells_of_different_schemas_are_pointed_out(realcloud: RealCloud, tmp_path: Path) -> None:
    realcloud.rows(realcloud.cell2, "UPDATE alembic_version SET version_num = 'older'")
    ended = call("check -f json", config=realcloud.config(tmp_path))
    (finding,) = [one for one in ended.document["findings"] if one["where"] == "cells"]
    assert (ended.code, finding["verdict"]) == (0, "warning")
    assert "alembic_version older: cell2" in finding["detail"]


def test_a_cell_that_stays_silent_is_reported(
    realcloud: RealCloud, tmp_path: Path, silent_port: int
) -> None:
    move(
        realcloud,
        "cell2",
        f"mysql+pymysql://nova:{MariaDB.PASSWORD}@127.0.0.1:{silent_port}/nova_cell2",
    )
    ended = call("check -f json", config=realcloud.config(tmp_path))
    assert ended.code == 1
    assert "does not answer within 5 s" in problems(ended)["cell2", "database"]
    assert "cell3" in {
        one["where"] for one in ended.document["findings"] if one["what"] == "backlog"
    }


def test_a_server_that_hangs_in_the_middle_is_reported(
    realcloud: RealCloud, tmp_path: Path
) -> None:
    """All databases are on it: not even the cells are known."""
    config = realcloud.config(tmp_path)
    realcloud.server.pause()
    ended = call("check -f json", config=config)
    assert ended.code == 1
    assert list(problems(ended)) == [("API database", "database")]
