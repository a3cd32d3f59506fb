"""``check``: whether the databases are as the first night needs them. Nothing is written, nothing waits for long."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final, Self

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from jobs.action import Action, CellResult, Cursor, Step, Target
from jobs.db import deleted_rows
from jobs.db.trees import Forest
from jobs.retry import rollback
from novadb import catalogue
from novadb.engine import Database, reason
from novadb.errors import DatabaseProblem, UnsuitableSchema

# Clocks apart by more make ages and windows mean something else in each place.
SKEW: Final = timedelta(seconds=2)
SKEW_LIMIT: Final = timedelta(seconds=60)

# What a statement needs is told by its plan: the server checks the same privileges, and does nothing.
CELL_NEEDS: Final = {
    "SELECT": "EXPLAIN SELECT id FROM instances WHERE 1 = 0",
    "INSERT": "EXPLAIN INSERT INTO shadow_instances SELECT * FROM shadow_instances WHERE 1 = 0",
    "DELETE": "EXPLAIN DELETE FROM shadow_instances WHERE 1 = 0",
    "DELETE on instances": "EXPLAIN DELETE FROM instances WHERE 1 = 0",
}
API_NEEDS: Final = {
    f"DELETE on {name}": f"EXPLAIN DELETE FROM {name} WHERE 1 = 0"
    for name in ("instance_mappings", "request_specs", "instance_group_member")
}


class Exit(IntEnum):
    """Whether all is well."""

    WELL = 0
    FAILED = 1


class Verdict(StrEnum):
    """What is to be thought of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :ivar subject: what
    :ivar detail: what was found, and what to do about it
    """

    subject: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True)
class Findings:
    """What was found in a database.

    :ivar schema: the versions of its schema, as the database says
    :ivar backlog: rows that wait to be archived
    """

    found: tuple[Finding, ...] = ()
    schema: str = ""
    backlog: deleted_rows.DeletedRows = field(default_factory=deleted_rows.DeletedRows)

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            found=self.found + other.found,
            schema=self.schema or other.schema,
            backlog=self.backlog + other.backlog,
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """Rows that wait, by table."""
        return self.backlog.by_table

    @property
    def rows(self) -> int:
        """Nothing is written."""
        return 0


def work(target: Target, params: deleted_rows.Params, cursor: Cursor | None) -> Generator[Step[Findings]]:
    """Look at a cell.

    :raises DatabaseProblem: the cell's database cannot be reached
    """
    with target.database.connect() as cell:
        yield Step(Findings((_reached(target.database),)), {})
        yield Step(_look_at_server(cell, CELL_NEEDS), {})
        yield Step(Findings((_shadow_tables(cell),)), {})
    for step in deleted_rows.work(target, params, None):
        yield Step(Findings(backlog=step.outcome), {})


def look_at_api(database: Database) -> Findings:
    """Look at the API database.

    :raises DatabaseProblem: it cannot be reached
    """
    with database.connect() as api:
        return Findings((_reached(database),)) + _look_at_server(api, API_NEEDS)


def _reached(database: Database) -> Finding:
    return Finding("database", Verdict.OK, f"{database} answers")


def _look_at_server(connection: Connection, needs: Mapping[str, str]) -> Findings:
    """What every database must have: its tables, grants, a right clock."""
    found = [_grants(connection, needs)]
    if connection.dialect.name != "sqlite":
        found += [_writable(connection), _clock(connection)]
    schema = _schema_version(connection)
    verdict = Verdict.OK if schema else Verdict.WARNING
    found.append(Finding("schema", verdict, schema or "the database names no version: was it made by db sync?"))
    return Findings(tuple(found), schema)


def _grants(connection: Connection, needs: Mapping[str, str]) -> Finding:
    missing = [
        f"{need} ({problem})" for need, statement in needs.items() if (problem := _refusal(connection, statement))
    ]
    if missing:
        return Finding("grants", Verdict.FAILED, f"missing: {'; '.join(missing)}")
    return Finding("grants", Verdict.OK, ", ".join(needs))


def _refusal(connection: Connection, statement: str) -> str:
    """Why the server would refuse a statement; empty: it would not."""
    try:
        connection.execute(text(statement))
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return reason(error)
    finally:
        rollback(connection)
    return ""


def _writable(connection: Connection) -> Finding:
    read_only = _value(connection, "SELECT @@global.read_only")
    if str(read_only) not in ("0", "OFF"):
        return Finding("writable", Verdict.FAILED, "the server is read only: a replica? Name the writer of the cell")
    return Finding("writable", Verdict.OK, "the server takes changes")


def _clock(connection: Connection) -> Finding:
    """Compare the server's clock with that of this host, half of the journey back and forth taken off."""
    before = datetime.now(UTC).replace(tzinfo=None)
    theirs = _value(connection, "SELECT UTC_TIMESTAMP(6)")
    after = datetime.now(UTC).replace(tzinfo=None)
    assert isinstance(theirs, datetime)
    return clock_finding(theirs - (before + (after - before) / 2))


def clock_finding(ahead: timedelta) -> Finding:
    """What to think of a clock that is so far ahead of this host's."""
    apart = abs(ahead)
    verdict = Verdict.FAILED if apart > SKEW_LIMIT else Verdict.WARNING if apart > SKEW else Verdict.OK
    way = "ahead of" if ahead > timedelta() else "behind"
    detail = f"{apart.total_seconds():.1f} s {way} this host"
    return Finding("clock", verdict, detail if verdict is Verdict.OK else f"{detail}: set both by NTP")


def _schema_version(connection: Connection) -> str:
    """The version that alembic or, before it, sqlalchemy-migrate has written down."""
    versions = {
        "alembic_version": "SELECT version_num FROM alembic_version",
        "migrate_version": "SELECT version FROM migrate_version",
    }
    for name, statement in versions.items():
        try:
            version = _value(connection, statement)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            continue
        if version is not None:
            return f"{name} {version}"
    return ""


def _value(connection: Connection, statement: str) -> object:
    try:
        return connection.execute(text(statement)).scalar()
    finally:
        rollback(connection)


def _shadow_tables(connection: Connection) -> Finding:
    """Whether each table that is archived has a shadow table with its columns."""
    forest = Forest(catalogue.read(connection))
    rollback(connection)
    problems = []
    for name in forest.roots:
        try:
            forest.tree(name)
        except UnsuitableSchema as problem:
            problems.append(str(problem))
    if not forest.roots:
        problems.append("there is no table to archive: is it a cell's database?")
    if problems:
        return Finding("shadow tables", Verdict.FAILED, "; ".join(dict.fromkeys(problems)))
    return Finding("shadow tables", Verdict.OK, f"{len(forest.roots)} tables can be archived")


def versions_at_odds(versions: Mapping[str, str]) -> Finding | None:
    """Cells of several versions of the schema: an upgrade is under way, or was not finished.

    :param versions: by cell
    """
    known = sorted({version for version in versions.values() if version})
    if len(known) < 2:
        return None
    named = "; ".join(f"{one}: {', '.join(cell for cell, its in versions.items() if its == one)}" for one in known)
    return Finding("schema", Verdict.WARNING, f"the cells differ: {named}")


def collapse(results: Sequence[CellResult[Findings]], _params: deleted_rows.Params) -> Exit:
    """A cell that failed, or has a finding that did, is a failure."""
    failed = any(result.failure or is_failed(result.outcome.found) for result in results)
    return Exit.FAILED if failed else Exit.WELL


def is_failed(findings: Sequence[Finding]) -> bool:
    """Whether one of them failed."""
    return any(finding.verdict is Verdict.FAILED for finding in findings)


def try_out(
    subject: str, look: Callable[[], Sequence[Finding]], expected: type[Exception] = DatabaseProblem
) -> list[Finding]:
    """The findings of a look, or that it failed.

    :param expected: the errors whose text is for operators
    """
    try:
        return list(look())
    except expected as problem:
        return [Finding(subject, Verdict.FAILED, str(problem))]


LOOK: Final = Action(
    name="check", params=deleted_rows.Params, work=work, nothing=Findings(), collapse=collapse, writes=False
)
