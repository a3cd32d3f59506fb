"""How a run ended, in words: every combination that decides, and what the commands print of it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from cli.output import failure_line, put_json
from cli.run_summary import RunSummary, clock_time, duration, summary_as_data
from jobs.action import CellResult, Failure, FailureKind
from jobs.actions import ACTIONS
from jobs.codec import decode, encode
from jobs.db.archive_deleted_rows import Archived, Params
from jobs.db.purge import Params as PurgeParams
from jobs.db.purge import Purged
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs import rules
from runs.outcomes import Ending, RunFacts, ending_of
from runs.records import Order, Phase, Progress, RunRecord, RunState, Wish

ARCHIVE = ACTIONS["db.archive_deleted_rows"]
PURGE = ACTIONS["db.purge"]
FOUR = RunFacts(cells=4, rows=7)


@pytest.mark.parametrize(
    ("facts", "ending"),
    [
        pytest.param(FOUR, "ok", id="rows, no failure"),
        pytest.param(RunFacts(4), "nothing to do", id="no row anywhere"),
        pytest.param(RunFacts(4, blocked=2), "ok", id="no row, but some that had to be left"),
        pytest.param(RunFacts(4, writes=False), "ok", id="one that only reads has looked"),
        pytest.param(RunFacts(4, 1, rows=7), "partly failed", id="one cell of four failed"),
        pytest.param(RunFacts(4, 1), "partly failed", id="one cell failed, the others had nothing"),
        pytest.param(RunFacts(4, 4), "failed", id="all cells failed"),
        pytest.param(RunFacts(4, 4, rows=7), "failed", id="all cells failed, some after rows"),
        pytest.param(RunFacts(1, 1, rows=7), "failed", id="the only cell failed"),
        pytest.param(
            RunFacts(4, failed_later=True, rows=7), "partly failed", id="the purge behind it failed"
        ),
        pytest.param(
            RunFacts(4, has_bad_code=True), "partly failed", id="within the cells something failed"
        ),
        pytest.param(
            RunFacts(0, has_bad_code=True), "failed", id="no cell to work on, which is wrong here"
        ),
        pytest.param(RunFacts(0), "nothing to do", id="no cell"),
        pytest.param(
            RunFacts(4, unfinished=True, rows=7), "ok", id="the budget of rows was used up"
        ),
        pytest.param(
            RunFacts(4, unfinished=True, cancelled=True, rows=7), "cancelled", id="cancelled"
        ),
        pytest.param(
            RunFacts(4, unfinished=True, cancelled=True),
            "cancelled",
            id="cancelled before the first row",
        ),
        pytest.param(RunFacts(4, cancelled=True, rows=7), "ok", id="cancelled when all was done"),
        pytest.param(
            RunFacts(4, unfinished=True, window_closed=True),
            "window closed",
            id="its window closed",
        ),
        pytest.param(
            RunFacts(4, window_closed=True, rows=7), "ok", id="its window closed when all was done"
        ),
        pytest.param(
            RunFacts(4, unfinished=True, cancelled=True, window_closed=True),
            "cancelled",
            id="cancelled, then closed",
        ),
        pytest.param(
            RunFacts(4, 1, unfinished=True, cancelled=True),
            "partly failed",
            id="a failure outweighs the cancel",
        ),
        pytest.param(
            RunFacts(4, unfinished=True, cancelled=True, has_bad_code=True),
            "cancelled",
            id="the cancel is in the code",
        ),
    ],
)
def test_a_run_ends_in_a_word(facts: RunFacts, ending: str) -> None:
    assert ending_of(facts) == ending


GOOD_CODES = {
    "db.archive_deleted_rows": {0, 1},
    "db.archive_deleted_rows.dry_run": {0},
    "db.purge": {0, 3},
    "db.purge.dry_run": {3},
    "db.online_data_migrations": {0, 1},
    "cell_v2.discover_hosts": {0, 1},
    "cell_v2.map_instances": {0, 1},
    "placement.heal_allocations": {0, 1, 4},
    "placement.heal_allocations.dry_run": {0, 1, 4},
    "placement.sync_aggregates": {0},
    "placement.audit": {0, 3, 4},
    "libvirt.list_unset_machine_type": {0, 3},
    "libvirt.record_machine_types": {0, 3},
}


@pytest.mark.parametrize(("action", "good"), GOOD_CODES.items())
def test_the_codes_that_report_no_failure(action: str, good: set[int]) -> None:
    assert ACTIONS[action].good_codes == good


def test_every_action_says_which_codes_report_no_failure() -> None:
    assert set(GOOD_CODES) == set(ACTIONS)


# -- from the store to the words -------------------------------------------------------------------

PARAMS = {ARCHIVE.name: Params(until_complete=True), PURGE.name: PurgeParams()}
NAMES = ("cell0", "cell1", "cell2")
BEGAN = datetime(2026, 11, 27, 1, 0, tzinfo=UTC).timestamp()


def run(*actions: str, cancelled: bool = False, closed: bool = False) -> RunRecord:
    """A run that began an hour ago, and is in its last phase."""
    phases = tuple(Phase(action, encode(PARAMS[action])) for action in actions or (ARCHIVE.name,))
    until = BEGAN + 60 if closed else None
    wish = Wish.CANCEL if cancelled else Wish.NOTHING
    return RunRecord(
        Order("r1", phases, "root@c1"),
        len(NAMES),
        BEGAN,
        RunState.RUNNING,
        wish,
        len(phases) - 1,
        BEGAN,
        until=until,
    )


def in_words(record: RunRecord) -> str:
    return rules.state_in_words(record, None, BEGAN + 3723, at_work=0)


def results(
    *outcomes: Archived | Purged, failed: int = 0, unfinished: int = 0
) -> list[CellResult[object]]:
    """The cells; the last ones fail, or are not worked to their end."""
    cells = []
    for number, outcome in enumerate(outcomes):
        has_failed = number >= len(outcomes) - failed
        failure = Failure(FailureKind.CELL, "away") if has_failed else None
        complete = number < len(outcomes) - max(failed, unfinished)
        cell = Cell(
            NAMES[number], NAMES[number], frozenset(), DatabaseProblem("known by name only")
        )
        cells.append(CellResult(cell, outcome, failure, complete))
    return cells


NOTHING, MOVED, LEFT = Archived(), Archived({"instances": 5}), Archived(blocked_count=2)


@pytest.mark.parametrize(
    ("record", "phases", "words"),
    [
        pytest.param(run(), [results(MOVED, MOVED, NOTHING)], "ok", id="a perfect archive"),
        pytest.param(run(), [results(*[NOTHING] * 3, failed=3)], "failed", id="no cell was served"),
        pytest.param(run(), [results(MOVED, MOVED, NOTHING, failed=1)], "partly failed", id="a dead cell"),
        pytest.param(run(), [results(*[NOTHING] * 3)], "nothing to do", id="an empty night"),
        pytest.param(run(), [results(NOTHING, LEFT, NOTHING)], "ok", id="rows were left"),
        pytest.param(run(cancelled=True), [results(MOVED, NOTHING, NOTHING, unfinished=2)], "cancelled", id="cancel"),
        pytest.param(run(closed=True), [results(MOVED, MOVED, MOVED, unfinished=1)], "window closed", id="06:00"),
        pytest.param(
            replace(run(ARCHIVE.name, PURGE.name, cancelled=True), phase=0), [results(MOVED, MOVED, MOVED)],
            "cancelled", id="cancelled before the purge",
        ),
        pytest.param(
            run(ARCHIVE.name, PURGE.name),
            [results(MOVED, MOVED, MOVED), results(Purged(), Purged(), Purged(), failed=3)], "partly failed",
            id="the purge failed",
        ),
    ],
)  # fmt: skip
def test_the_words_of_a_run_that_has_ended(
    record: RunRecord, phases: list[list[CellResult[object]]], words: str
) -> None:
    ended = rules.end_run(record, phases, BEGAN + 3723, ACTIONS)
    assert ended is not None
    assert in_words(ended) == words


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (replace(run(), state=RunState.WAITING), "waiting"),
        (run(), "running"),
        (replace(run(), wish=Wish.PAUSE), "paused"),
        (run(cancelled=True), "cancelling"),
        (run(closed=True), "window closing"),
    ],
)
def test_the_words_of_a_run_that_goes_on(record: RunRecord, words: str) -> None:
    assert in_words(record) == words


def test_a_run_pauses_as_long_as_somebody_works_on_a_cell() -> None:
    assert (
        rules.state_in_words(replace(run(), wish=Wish.PAUSE), None, BEGAN, at_work=1) == "pausing"
    )


def test_a_run_as_data() -> None:
    record = rules.end_run(run(), [results(MOVED, LEFT, NOTHING, failed=1)], BEGAN + 3723, ACTIONS)
    assert record is not None
    data = summary_as_data(
        RunSummary(record, Progress(5, 0, 1, 0), Progress(5, 0, 1, 0), in_words(record))
    )
    assert (data["outcome"], data["exit_code"]) == (Ending.PARTLY_FAILED, 255)
    assert (data["rows"], data["blocked"], data["failed_cells"], data["seconds"]) == (
        5,
        2,
        1,
        3723.0,
    )


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "printed"),
    [
        pytest.param(
            datetime(2026, 11, 27, 2, 0), "2026-11-27T02:00:00Z", id="of a column of Nova's"
        ),
        pytest.param(
            datetime(2026, 11, 27, 2, 0, tzinfo=UTC), "2026-11-27T02:00:00Z", id="with its zone"
        ),
        pytest.param(
            datetime(2026, 11, 27, 2, 0, tzinfo=timezone(timedelta(hours=1))),
            "2026-11-27T01:00:00Z",
            id="elsewhere",
        ),
    ],
)
def test_moments_in_json_have_a_zone(
    moment: datetime, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put_json({"at": moment})
    assert json.loads(capsys.readouterr().out) == {"at": printed}


def test_moments_in_stored_parameters_have_a_zone() -> None:
    params = Params(before=datetime(2026, 8, 29, 2, 0))
    assert encode(params)["before"] == "2026-08-29T02:00:00Z"
    assert decode(Params, encode(params)) == params
    assert decode(Params, {"before": "2026-08-29T02:00:00"}) == params, (
        "as an earlier version stored it"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0:00:00"), (59.9, "0:00:59"), (61, "0:01:01"), (3723, "1:02:03"), (93784, "26:03:04")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_times_for_people_name_their_zone() -> None:
    assert clock_time(BEGAN, timezone(timedelta(hours=1), "CET")) == "2026-11-27 02:00:00 CET"
    assert clock_time(None, UTC) == ""


def test_a_line_names_a_failed_cell_once() -> None:
    assert failure_line(
        "cell4", Failure(FailureKind.CELL, "cell4 (db:3306/nova): cannot connect")
    ) == ("cell4 (db:3306/nova): cannot connect")
    assert failure_line(
        "cell4", Failure(FailureKind.API_DATABASE, "the API database (db:3306/api): away")
    ) == ("cell4: the API database (db:3306/api): away")
