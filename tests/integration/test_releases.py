"""Databases of each release of Nova: as that release made them, and upgraded.

What is done to them is compared with what the release's own tool did to the same rows.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from novadb.engine import Database
from novadb.migrations.upgrade import API_SCHEMA, MAIN_SCHEMA, NEWEST_RELEASE, Schema
from settings.databases import Timeouts
from tests.support.program import Program
from tests.support.releases import API, CELL, CELL0, CELLS, ReleasedCloud, recorded
from tests.support.schemas import Description, describe
from tests.support.services import MariaDB

RELEASES: Final = pytest.mark.parametrize("release", list(recorded()))
NEWEST: Final = list(recorded())[-1]
# The first release whose instances name their compute node by its id.
WITH_COMPUTE_ID: Final = 28
WITHOUT_COMPUTE_ID: Final = "populate_instance_compute_id was passed over"
COMPLETE, ARCHIVED, NOTHING_ARCHIVED, PURGED = 0, 1, 0, 0


@pytest.fixture(scope="module")
def cloud(mariadb: MariaDB) -> Iterator[ReleasedCloud]:
    mariadb.revive()
    released = ReleasedCloud(mariadb)
    yield released
    released.drop()


@pytest.fixture
def program(cloud: ReleasedCloud, tmp_path: Path) -> Program:
    return Program(cloud.config(tmp_path), API)


@RELEASES
def test_a_cloud_of_each_release_is_worked_as_its_own_tool_works_it(
    cloud: ReleasedCloud, program: Program, release: str
) -> None:
    known = recorded()[release]
    cloud.make(known["tables"])
    assert versions(program) == known["versions"]
    number = int(release.partition(".")[0])
    found = schema_findings(program)
    assert found["API database"] == expected_finding(API_SCHEMA, number, known["versions"]["api"])
    assert (
        found["cell0"]
        == found["cell3"]
        == expected_finding(MAIN_SCHEMA, number, known["versions"]["main"])
    )
    cloud.put_back()
    work(cloud, program, known, [WITHOUT_COMPUTE_ID] if number < WITH_COMPUTE_ID else [])
    assert versions(program) == known["versions"]


@RELEASES
def test_a_cloud_of_an_older_release_is_upgraded_as_the_newest_tool_upgrades_it(
    cloud: ReleasedCloud, program: Program, release: str
) -> None:
    known, newest = recorded()[release], recorded()[NEWEST]
    cloud.make(known["tables"])
    rows = cloud.counts()
    for line in ("api_db", "sync"), ("db", "sync"):
        ended = program.run(*line)
        assert (ended.code, ended.out) == (0, "")
    assert versions(program) == newest["versions"]
    assert described(cloud, API) == comparable(known["heads"]["api"])
    assert described(cloud, CELL0) == described(cloud, CELL) == comparable(known["heads"]["main"])
    assert cloud.counts() == rows
    assert {verdict for verdict, _ in schema_findings(program).values()} == {"ok"}
    # Else they are the tables that the newest release's own cloud was worked on.
    if known["heads"] != newest["heads"]:
        cloud.put_back()
        work(cloud, program, newest)


def test_the_newest_revisions_of_each_release_are_known() -> None:
    for release, known in recorded().items():
        number = int(release.partition(".")[0])
        for schema in (MAIN_SCHEMA, API_SCHEMA):
            assert revision_of(schema, number) == known["versions"][schema.name] or number < 24
    assert int(NEWEST.partition(".")[0]) == NEWEST_RELEASE


def work(
    cloud: ReleasedCloud,
    program: Program,
    known: Mapping[str, Any],
    passed_over: Sequence[str] = (),
) -> None:
    """Migrate, archive and purge, and compare with what the stock tool has left each time.

    :param passed_over: what is said of migrations that the release does not have, in each cell
    """
    ended = program.run("db", "online_data_migrations", "--all-cells")
    assert ended.code == COMPLETE
    said = [line.partition("): ")[2].partition(": ")[0] for line in ended.err.splitlines()]
    assert said == [*passed_over] * len(CELLS)
    assert cloud.look() == known["migrated"]
    archive = ("db", "archive_deleted_rows", "--all-cells", "--until-complete")
    assert program.run(*archive) == (ARCHIVED, "", "")
    assert cloud.counts() == without_marker_groups(known["archived"])
    assert program.run(*archive).code == NOTHING_ARCHIVED
    ended = program.run("db", "purge", "--all", "--all-cells")
    assert (ended.code, ended.err) == (PURGED, "")
    assert cloud.counts() == without_marker_groups(known["purged"])


def without_marker_groups(counts: Mapping[str, int]) -> dict[str, int]:
    """Rows by table, without the security group that the stock tool's migration leaves in each cell
    (ODM-8).
    """
    return {name: count - name.endswith(".security_groups") for name, count in counts.items()}


def versions(program: Program) -> dict[str, str]:
    """What the two version commands print, by schema."""
    printed = {"api": program.run("api_db", "version"), "main": program.run("db", "version")}
    assert {ended.code for ended in printed.values()} == {0}
    return {schema: ended.out.removesuffix("\n") for schema, ended in printed.items()}


def schema_findings(program: Program) -> dict[str, tuple[str, str]]:
    """Verdict and detail of the schemas, by where."""
    ended = program.run("check", "-f", "json")
    assert ended.code == 0
    findings = [finding for finding in ended.data["findings"] if finding["what"] == "schema"]
    return {finding["where"]: (finding["verdict"], finding["detail"]) for finding in findings}


def expected_finding(schema: Schema, release: int, version: str) -> tuple[str, str]:
    """What is true of a schema of a release."""
    if version.isdigit():
        place, behind = f"migrate_version {version} (before Nova 24)", len(schema.revisions)
    else:
        place = f"alembic_version {schema.with_releases(version)}"
        behind = len(schema.revisions) - 1 - schema.revisions.index(version)
    if not behind:
        return "ok", place
    command = "db sync --all-cells" if schema == MAIN_SCHEMA else "api_db sync"
    newest = schema.with_releases(schema.revisions[-1])
    advice = f"if Nova has been upgraded, cellkeeper {command} is due"
    return "warning", f"{place} is behind {newest} by {behind}: {advice}"


def revision_of(schema: Schema, release: int) -> str | None:
    """The newest revision that a release knows."""
    return next(
        (revision for revision, first in reversed(schema.releases.items()) if first <= release),
        None,
    )


def described(cloud: ReleasedCloud, database: str) -> Description:
    """What a database says of its tables, as a thing of JSON."""
    with Database(cloud.server.url(database), database, Timeouts()).connect() as connection:
        return comparable(json.loads(json.dumps(describe(connection))))


def comparable(description: Description) -> Description:
    """A description without the collation that the database itself has: the default of the server
    where it is now.
    """
    charset, _ = description["(database)"]["defaults"]
    return description | {"(database)": {"defaults": [charset]}}
