"""A row that others keep locked holds up no other of its batch, and is waited for; slow
transactions become small.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from jobs.action import CellResult, Limits, Outcome, Step, Target
from jobs.cell_v2 import discover_hosts, map_instances
from jobs.db import archive_deleted_rows, purge
from jobs.transaction_size import SMALL, TransactionSize
from runs import rules
from runs.local import LocalEngine
from tests.integration.cells import add_nodes, target
from tests.support.command import until
from tests.support.realcloud import RealCloud

API, CELL = RealCloud.api, RealCloud.cell3
VISIBLE: Final = f"{CELL}.instances WHERE COALESCE(hidden, 0) = 0"
LAST: Final = f"SELECT uuid, 'p' FROM {VISIBLE} ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True)
class Case:
    """Something that writes batches.

    :ivar prepare: statements before
    :ivar lock: what somebody else does at the last row, and does not commit
    :ivar work: in the cell
    :ivar left: counts the rows that are still to be done
    :ivar held: how many of them the lock holds up
    """

    prepare: tuple[tuple[str, str], ...]
    lock: tuple[str, str]
    work: Callable[[Target], Iterator[Step[Any]]]
    left: tuple[str, str]
    held: int = 1


def map_all(cell: Target) -> Iterator[Step[Any]]:
    return map_instances.work(cell, map_instances.Params(), None)


def discover(cell: Target) -> Iterator[Step[Any]]:
    return discover_hosts.work(cell, discover_hosts.Params(), None)


def archive(cell: Target) -> Iterator[Step[Any]]:
    return archive_deleted_rows.work(
        cell, archive_deleted_rows.Params(max_rows=60, until_complete=True), None
    )


def purge_all(cell: Target) -> Iterator[Step[Any]]:
    return purge.work(replace(cell, limits=Limits(purge_chunk=8)), purge.Params(), None)


CASES: Final = {
    "map_instances": Case(
        ((API, "TRUNCATE instance_mappings"),),  # what is deleted would keep gaps locked
        (API, f"INSERT INTO instance_mappings (instance_uuid, project_id) {LAST}"),
        map_all,
        (
            API,
            f"SELECT COUNT(*) FROM {VISIBLE} AND uuid NOT IN (SELECT instance_uuid FROM "
            "instance_mappings)",
        ),
    ),
    "discover_hosts": Case(
        (),
        (
            CELL,
            "SELECT id FROM compute_nodes WHERE host LIKE 'new-%' ORDER BY id DESC LIMIT 1 FOR "
            "UPDATE",
        ),
        discover,
        (CELL, "SELECT COUNT(*) FROM compute_nodes WHERE host LIKE 'new-%' AND mapped = 0"),
    ),
    "archive_deleted_rows": Case(
        (),
        (CELL, "SELECT id FROM instances WHERE deleted <> 0 ORDER BY id DESC LIMIT 1 FOR UPDATE"),
        archive,
        (CELL, "SELECT COUNT(*) FROM instances WHERE deleted <> 0"),
    ),
    "purge": Case(
        ((CELL, "INSERT INTO shadow_instances SELECT * FROM instances"),),
        (CELL, "SELECT id FROM shadow_instances ORDER BY id DESC LIMIT 1 FOR UPDATE"),
        purge_all,
        (CELL, "SELECT COUNT(*) FROM shadow_instances"),
        held=2,  # a range is locked to the row behind it
    ),
}


@contextmanager
def locked(cloud: RealCloud, case: Case) -> Iterator[Callable[[], None]]:
    """Another session that holds the row of a case; yields what makes it let go."""
    database, statement = case.lock
    with closing(cloud.server.connect(database, autocommit=False)) as link, link.cursor() as cursor:
        assert cursor.execute(statement) == 1
        yield link.rollback


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_row_that_others_keep_locked_holds_up_no_other(realcloud: RealCloud, case: Case) -> None:
    add_nodes(realcloud, CELL, 9)
    for database, statement in case.prepare:
        realcloud.rows(database, statement)
    done: list[Outcome] = []

    def work() -> None:
        done.extend(step.outcome for step in case.work(target(realcloud, "cell3")))

    thread = threading.Thread(target=work, daemon=True)
    with locked(realcloud, case) as let_go:
        thread.start()

        def are_others_done() -> bool:
            assert thread.is_alive(), "it gave up"
            return realcloud.rows(*case.left) == [(case.held,)]

        until(are_others_done)
        let_go()
        thread.join()
    assert done, "it failed"
    assert realcloud.rows(*case.left) == [(0,)]


MORE_THAN_SIX: Final = 7


def test_a_row_that_is_locked_for_longer_than_six_tries_does_not_fail_the_cell(
    realcloud: RealCloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rules, "LONGEST_PAUSE", 0.1)
    caplog.set_level(logging.INFO, "cellkeeper.runs")
    case = CASES["archive_deleted_rows"]
    params = archive_deleted_rows.Params(max_rows=60, until_complete=True)
    results: list[CellResult[Any]] = []

    def work() -> None:
        engine = LocalEngine(concurrency=1, per_server=4)
        results.extend(
            engine.work(archive_deleted_rows.ACTION, params, [target(realcloud, "cell3")])
        )

    thread = threading.Thread(target=work, daemon=True)
    with locked(realcloud, case) as let_go:
        thread.start()

        def was_tried_often() -> bool:
            assert thread.is_alive(), "it gave up"
            return caplog.text.count("others are at the same rows") >= MORE_THAN_SIX

        until(was_tried_often)
        assert realcloud.rows(*case.left) == [(case.held,)]
        let_go()
        thread.join()
    (result,) = results
    assert (result.failure, result.complete) == (None, True)
    assert realcloud.rows(*case.left) == [(0,)]
    assert result.outcome.moved["instances"] == result.outcome.api["instance_mappings"]


# What each action writes, with a trigger that makes each row slow, and how the action is done.
SLOW: Final = {
    "archive_deleted_rows": (
        "BEFORE INSERT ON shadow_instances",
        archive,
        CASES["archive_deleted_rows"],
    ),
    "purge": ("BEFORE DELETE ON shadow_instances", purge_all, CASES["purge"]),
}


@pytest.mark.parametrize("name", SLOW)
def test_transactions_become_small_where_the_server_is_slow(
    realcloud: RealCloud, name: str
) -> None:
    event, work, case = SLOW[name]
    for database, statement in case.prepare:
        realcloud.rows(database, statement)
    realcloud.rows(CELL, f"CREATE TRIGGER slow {event} FOR EACH ROW DO SLEEP(0.1)")
    size = TransactionSize(seconds=0.05)
    steps = list(work(replace(target(realcloud, "cell3"), size=size)))
    assert size.rows < SMALL
    assert len([step for step in steps if step.outcome.rows]) > 1
    assert realcloud.rows(*case.left) == [(0,)]


def test_a_pause_comes_once_for_all_transactions_of_a_batch(realcloud: RealCloud) -> None:
    """However small transactions are: ``--sleep`` is a pause for each ``--max_rows`` rows."""
    params = archive_deleted_rows.Params(max_rows=100, until_complete=True, sleep=1.0)
    cell = replace(target(realcloud, "cell3"), size=TransactionSize(seconds=0.000001))
    batches, transactions = [0], 0
    for step in archive_deleted_rows.work(cell, params, None):
        transactions += step.outcome.rows > 0
        batches[-1] += step.outcome.rows
        if step.ends_batch:
            batches.append(0)
    assert transactions > len(batches)
    assert all(0 < rows <= params.max_rows for rows in batches[:-1])
    assert sum(batches) > params.max_rows
