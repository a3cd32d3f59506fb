"""``check``: whether the databases are as the first night needs them. Nothing is written, nothing
waits for long.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import ClassVar, Final, Self

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from jobs import grants
from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target, Unit
from jobs.db import deleted_rows
from jobs.db.trees import no_transactions, read_forest
from jobs.grants import Need, Needs
from jobs.retry import rollback, transactionally
from novadb import catalogue
from novadb.engine import Database, is_transient, server_message
from novadb.errors import DatabaseProblem, Unreachable, UnsuitableSchema
from novadb.migrations.environment import VERSION_TABLE
from novadb.migrations.upgrade import (
    API_SCHEMA,
    MAIN_SCHEMA,
    Schema,
    SchemaStanding,
    WrongSchema,
    read_standing,
)

# Clocks apart by more make ages and windows mean something else in each place.
SKEW: Final = timedelta(seconds=2)
SKEW_LIMIT: Final = timedelta(seconds=60)
USUAL: Final = ("db archive_deleted_rows", "db purge")
"""What is asked for where nothing is scheduled."""


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
class Findings(Outcome):
    """What was found in a database.

    :ivar lacking: by command, the privileges that it lacks
    :ivar schema: the version of its schema, as the database says
    :ivar pending: the revisions that an upgrade would go through
    :ivar backlog: rows that wait to be archived
    """

    counts: ClassVar[Unit] = Unit.NOTHING

    found: tuple[Finding, ...] = ()
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    schema: str = ""
    pending: tuple[str, ...] = ()
    backlog: deleted_rows.DeletedRows = field(default_factory=deleted_rows.DeletedRows)

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            found=self.found + other.found,
            lacking={**self.lacking, **other.lacking},
            schema=self.schema or other.schema,
            pending=self.pending + other.pending,
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


@dataclass(frozen=True)
class Params:
    """What is asked for.

    :ivar commands: those that must be allowed, as ``db purge``
    :ivar backlog: the limits of counting
    """

    commands: tuple[str, ...] = USUAL
    backlog: deleted_rows.Params = field(default_factory=deleted_rows.Params)


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Findings]]:
    """Look at a cell.

    :raises DatabaseProblem: the cell's database cannot be reached
    """
    with target.database.connect() as cell:

        def step(look: Callable[[], Findings]) -> Step[Findings]:
            return Step(transactionally(look, cell, name=str(target.database)), {})

        yield step(lambda: Findings((_reached(target.database),)))
        yield step(lambda: _look_at_server(cell, grants.CELL, params.commands))
        yield step(lambda: Findings(_unchecked_rows(cell)))
        yield step(lambda: _schema(cell, target.database, MAIN_SCHEMA))
        if not set(USUAL).isdisjoint(params.commands):
            yield step(lambda: Findings((_shadow_tables(cell),)))
        for counted in deleted_rows.count(cell, target.database, params.backlog):
            yield Step(Findings(backlog=counted.outcome), {})


def look_at_api(database: Database, commands: Sequence[str]) -> Findings:
    """Look at the API database.

    :param commands: those that must be allowed
    :raises DatabaseProblem: it cannot be used
    """
    try:
        with database.connect() as api:

            def look() -> Findings:
                found = Findings((_reached(database),)) + _look_at_server(api, grants.API, commands)
                return found + _schema(api, database, API_SCHEMA) + Findings(_engines(api))

            return transactionally(look, api, name=str(database))
    except DBAPIError as error:
        raise Unreachable(f"{database}: {server_message(error)}") from error


def _reached(database: Database) -> Finding:
    return Finding("database", Verdict.OK, f"{database} answers")


def _look_at_server(connection: Connection, needs: Needs, commands: Sequence[str]) -> Findings:
    """What every database must have: grants, a right clock."""
    missing = grants.missing(connection, needs)
    found = [_grants(missing, commands)]
    if connection.dialect.name != "sqlite":
        found += [_writable(connection), _clock(connection)]
    return Findings(
        tuple(found), {command: [str(need) for need in lacks] for command, lacks in missing.items()}
    )


def _grants(missing: Mapping[str, Mapping[Need, str]], commands: Sequence[str]) -> Finding:
    """Whether all that must be allowed is; what else is not may be meant so."""
    asked = {need: said for command in commands for need, said in missing[command].items()}
    if asked:
        said = next(iter(asked.values()))
        return Finding(
            "grants",
            Verdict.FAILED,
            f"missing: {', '.join(map(str, asked))}. The server says: {said}",
        )
    short = [command for command, lacks in missing.items() if lacks]
    enough = f"enough for {', '.join(commands)}; not for {', '.join(short)}"
    return Finding("grants", Verdict.OK, enough if short else "enough for all that workers do")


def _writable(connection: Connection) -> Finding:
    read_only = _value(connection, "SELECT @@global.read_only")
    if str(read_only) not in ("0", "OFF"):
        return Finding(
            "writable",
            Verdict.FAILED,
            "the server is read only: a replica? Name the writer of the cell",
        )
    return Finding("writable", Verdict.OK, "the server takes changes")


def _clock(connection: Connection) -> Finding:
    """Compare the server's clock with that of this host, half of the journey back and forth taken
    off.
    """
    before = datetime.now(UTC).replace(tzinfo=None)
    theirs = _value(connection, "SELECT UTC_TIMESTAMP(6)")
    after = datetime.now(UTC).replace(tzinfo=None)
    assert isinstance(theirs, datetime)
    return clock_finding(theirs - (before + (after - before) / 2))


def clock_finding(ahead: timedelta) -> Finding:
    """What to think of a clock that is so far ahead of this host's."""
    apart = abs(ahead)
    verdict = (
        Verdict.FAILED if apart > SKEW_LIMIT else Verdict.WARNING if apart > SKEW else Verdict.OK
    )
    way = "ahead of" if ahead > timedelta() else "behind"
    detail = f"{apart.total_seconds():.1f} s {way} this host"
    return Finding(
        "clock", verdict, detail if verdict is Verdict.OK else f"{detail}: set both by NTP"
    )


def _unchecked_rows(connection: Connection) -> tuple[Finding, ...]:
    """Whether the server takes some rows without a look for their parents, as MySQL 9.7 does unless
    told otherwise.
    """
    if connection.dialect.name == "sqlite":
        return ()
    variable = connection.execute(
        text("SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'")
    ).first()
    rollback(connection)
    if variable is None or variable[1] == "ON":
        return ()
    detail = (
        "this MySQL takes rows of instance_actions, block_device_mapping and others without a look "
        "for their instance, "
        "and they may be left behind when it is archived: start it with "
        "innodb_native_foreign_keys=ON"
    )
    return (Finding("foreign keys", Verdict.WARNING, detail),)


def _value(connection: Connection, statement: str) -> object:
    try:
        return connection.execute(text(statement)).scalar()
    finally:
        rollback(connection)


def _schema(connection: Connection, database: Database, schema: Schema) -> Findings:
    """Where the schema stands, and whether an upgrade would bring it on.

    Only the other schema is a failure: a cloud of an older release is behind, and one of a newer
    release ahead of what is known here, and both can be worked on.
    """
    try:
        stands = read_standing(connection, database, schema)
    except UnsuitableSchema as problem:
        return Findings((Finding("schema", Verdict.WARNING, str(problem)),))
    except DBAPIError as error:
        if is_transient(error):
            raise
        detail = (
            f"its version cannot be read, SELECT on {VERSION_TABLE} is enough for that: "
            f"{server_message(error)}"
        )
        return Findings((Finding("schema", Verdict.WARNING, detail),))
    finally:
        rollback(connection)
    return Findings(
        (_stands(stands, schema),), schema=stands.version, pending=tuple(stands.pending)
    )


def _stands(stands: SchemaStanding, schema: Schema) -> Finding:
    if stands.refusal:
        verdict = Verdict.FAILED if isinstance(stands.refusal, WrongSchema) else Verdict.WARNING
        return Finding("schema", verdict, str(stands.refusal))
    if not stands.version:
        return Finding(
            "schema", Verdict.WARNING, "the database names no version: was it made by db sync?"
        )
    if not stands.pending:
        return Finding("schema", Verdict.OK, stands.place)
    command = "db sync --all-cells" if schema == MAIN_SCHEMA else "api_db sync"
    return Finding(
        "schema",
        Verdict.WARNING,
        f"{stands.place} is behind {schema.with_releases(stands.pending[-1])} by "
        f"{len(stands.pending)}: "
        f"if Nova has been upgraded, cellkeeper {command} is due",
    )


def _shadow_tables(connection: Connection) -> Finding:
    """Whether each table that is archived has a shadow table with its columns."""
    forest = read_forest(connection)
    problems = []
    for name in forest.roots:
        try:
            forest.check(name)
        except UnsuitableSchema as problem:
            problems.append(str(problem))
    if not forest.roots:
        problems.append("there is no table to archive: is it a cell's database?")
    if problems:
        return Finding("shadow tables", Verdict.FAILED, "; ".join(dict.fromkeys(problems)))
    return Finding("shadow tables", Verdict.OK, f"{len(forest.roots)} tables can be archived")


def _engines(connection: Connection) -> tuple[Finding, ...]:
    """The tables whose engine knows no transactions, if there are any."""
    plain_engines = catalogue.read_catalogue(connection).plain_engines
    rollback(connection)
    if not plain_engines:
        return ()
    problems = [no_transactions(name, engine) for name, engine in sorted(plain_engines.items())]
    return (Finding("tables", Verdict.FAILED, "; ".join(problems)),)


def versions_at_odds(versions: Mapping[str, str]) -> Finding | None:
    """Cells of several versions of the schema: an upgrade is under way, or was not finished.

    :param versions: by cell
    """
    known = sorted({version for version in versions.values() if version})
    if len(known) < 2:
        return None
    named = "; ".join(
        f"{one}: {', '.join(cell for cell, its in versions.items() if its == one)}" for one in known
    )
    return Finding("schema", Verdict.WARNING, f"the cells differ: {named}")


def not_allowed_in(results: Mapping[str, CellResult[Findings]]) -> list[Finding]:
    """For which commands the grants are not enough in which cells; what cells have in common is
    told once.

    :param results: by the name of the cell
    """
    cells: dict[tuple[str, ...], list[str]] = {}
    for name, result in results.items():
        if short := tuple(command for command, lacks in result.outcome.lacking.items() if lacks):
            cells.setdefault(short, []).append(name)
    return [
        Finding(
            "grants",
            Verdict.OK,
            f"not for {', '.join(short)}: "
            f"{'all cells' if len(names) == len(results) else ', '.join(names)}",
        )
        for short, names in cells.items()
    ]


def collapse(results: Sequence[CellResult[Findings]], _params: Params) -> Exit:
    """A cell that failed, or has a finding that did, is a failure."""
    failed = any(result.failure or is_failed(result.outcome.found) for result in results)
    return Exit.FAILED if failed else Exit.WELL


def is_failed(findings: Sequence[Finding]) -> bool:
    """Whether one of them failed."""
    return any(finding.verdict is Verdict.FAILED for finding in findings)


def try_out(
    subject: str,
    look: Callable[[], Sequence[Finding]],
    expected: type[Exception] | tuple[type[Exception], ...] = DatabaseProblem,
) -> list[Finding]:
    """The findings of a look, or that it failed.

    :param expected: the errors whose text is for operators
    """
    try:
        return list(look())
    except expected as problem:
        return [Finding(subject, Verdict.FAILED, str(problem))]


LOOK: Final = Action(
    name="check", params=Params, work=work, nothing=Findings(), collapse=collapse, writes=False
)
