"""The same commands in the process itself and through workers: same output, same exit code, same rows left."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.acceptance.program import call, until
from tests.realcloud import DATABASES, RealCloud
from tests.services import Redis
from tests.workers.fleet import Site, Worker, hooked

ARCHIVE: Final = "db archive_deleted_rows --all-cells"
API, CELL0, CELL1, CELL2, CELL3 = DATABASES


class Outcome(NamedTuple):
    """All that an operator has of a command."""

    code: int
    out: str
    err: str
    rows: dict[tuple[str, str], int]


def map_elsewhere(cell: str, url: Callable[[RealCloud], str]) -> Callable[[RealCloud], None]:
    """Give a cell's mapping another URL."""

    def prepare(cloud: RealCloud) -> None:
        cloud.rows(API, f"UPDATE cell_mappings SET database_connection = '{url(cloud)}' WHERE name = '{cell}'")

    return prepare


def as_it_is(_: RealCloud) -> None:
    """Nothing to prepare."""


def share(cloud: RealCloud) -> None:
    """A share refers to the first and to the last deleted instance of cell1: they are blocked."""
    for end in ("MIN", "MAX"):
        cloud.rows(
            CELL1,
            "INSERT INTO share_mapping (uuid, instance_uuid, share_id, status, tag, export_location, share_proto) "
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
wrong_password = map_elsewhere("cell1", lambda cloud: cloud.server.url(CELL1, password="nova-secret-of-old"))
refuses = map_elsewhere("cell3", lambda cloud: f"mysql+pymysql://nova:nova-secret@127.0.0.1:1/{CELL3}")
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


# What it is about: the command line, what is done to the cloud before, and the exit code.
SCENARIOS: Final[dict[str, tuple[str, Callable[[RealCloud], None], int]]] = {
    "until complete": (f"{ARCHIVE} --until-complete --max_rows 300 --verbose", as_it_is, 1),
    "a total": (f"{ARCHIVE} --max_rows 100 --verbose", as_it_is, 1),
    "a total over several cells": (f"{ARCHIVE} --max_rows 1600 --verbose", as_it_is, 1),
    "no rows at all": (f"{ARCHIVE} --max_rows 0 --verbose", as_it_is, 0),
    "by date, as data": (f"{ARCHIVE} --before 2026-08-01 --task-log --until-complete -f json", as_it_is, 1),
    "nothing to do": (f"{ARCHIVE} --before 2000-01-01 --until-complete --verbose --purge", no_task_log, 0),
    "archive and purge": (f"{ARCHIVE} --until-complete --purge -f json", as_it_is, 1),
    "a look at what would be archived": (f"{ARCHIVE} --dry-run --before 2026-08-01", as_it_is, 0),
    "purge": ("db purge --all --all-cells --verbose", archived, 0),
    "purge by date": ("db purge --before 2026-08-01 --all-cells -f json", archived, 0),
    "a look at what would be purged": ("db purge --all --all-cells --dry-run", archived, 3),
    "nothing to purge": ("db purge --all --all-cells --verbose", as_it_is, 3),
    "two cells away": (f"{ARCHIVE} --until-complete --verbose", two_are_away, 255),
    "no cell at all": (f"{ARCHIVE} --until-complete -f json", everything_is_away, 255),
    "purge without one cell": ("db purge --all --all-cells --verbose", refuses, 255),
    "a look without one cell": (f"{ARCHIVE} --dry-run", refuses, 255),
    "a broken API database": (f"{ARCHIVE} --until-complete", no_members, 3),
    "a total, as data": (f"{ARCHIVE} --max_rows 100 -f json", as_it_is, 1),
    "a total and a later cell that refuses": (f"{ARCHIVE} --max_rows 100", refuses, 255),
}


def by_both(site: Site, line: str, prepare: Callable[[RealCloud], None]) -> tuple[Outcome, Outcome]:
    """What becomes of a command in the process itself, and through workers, each on the same cloud."""
    inline = site.config.with_name("inline.conf")
    inline.write_text(site.config.read_text().replace("broker_url", "# broker_url"))
    return outcome(site, inline, line, prepare), outcome(site, site.config, line, prepare)


def outcome(site: Site, config: Path, line: str, prepare: Callable[[RealCloud], None]) -> Outcome:
    site.cloud.restore()
    prepare(site.cloud)
    runs = len(site.store.recent())
    ended = call(line, config=config, env=hooked())
    assert len(site.store.recent()) == runs + (config == site.config)
    out = json.dumps(timeless(ended.document)) if "-f json" in line else ended.out
    return Outcome(ended.code, out, ended.err, site.cloud.checksums())


def timeless(document: Any) -> Any:
    """A document without the seconds that something took."""
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if key != "seconds"}
    return [timeless(value) for value in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def shared_site(loaded_realcloud: RealCloud, broker: Redis, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(loaded_realcloud, broker, tmp_path_factory.mktemp("site"), slice_seconds=1.0)


@pytest.fixture(scope="module")
def site(shared_site: Site, shared_worker: Worker) -> Site:
    """A cloud with a worker that serves it; a test puts it into its state itself."""
    return shared_site


def assert_both_do_the_same(site: Site, line: str, prepare: Callable[[RealCloud], None], code: int) -> None:
    inline, workers = by_both(site, line, prepare)
    assert workers._replace(rows={}) == inline._replace(rows={})
    assert workers.rows == inline.rows
    assert inline.code == code


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_engines_do_the_same(site: Site, name: str) -> None:
    assert_both_do_the_same(site, *SCENARIOS[name])


def test_both_engines_print_the_same_dots(site: Site) -> None:
    assert_both_do_the_same(site, f"{ARCHIVE} --until-complete --purge --verbose", as_it_is, 1)


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
    for line, code in ((ARCHIVE, 3), ("db purge --all --all-cells", 4), (f"{ARCHIVE} --dry-run --detach", 3)):
        ended = call(line, config=broken, env=hooked())
        assert (ended.code, ended.out) == (code, "")
        assert "the API database" in ended.line
    assert site.store.recent() == before
