"""``check``: look everywhere at once, print what was found, end with 0 or 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final

from oslo_config import cfg
from redis.exceptions import RedisError

from cli.output import labels, put, put_json, table
from cli.run_options import Format
from cli.schedule import reading
from cli.watch.throttle_findings import look_at_throttle
from jobs.action import CellResult
from jobs.check import (
    LOOK,
    USUAL,
    Exit,
    Finding,
    Findings,
    Params,
    Verdict,
    clock_finding,
    is_failed,
    look_at_api,
    not_allowed_in,
    try_out,
    versions_at_odds,
)
from jobs.db.deleted_rows import DeletedRows
from jobs.db.deleted_rows import Params as Limits
from novadb.cells import Cell
from runs.conductor import count_serving
from runs.local import LocalEngine
from runs.store import BrokerAway
from runs.targets import api_database, mapped_cells, targets
from schedules.entries import Entry, InvalidSchedule
from schedules.firings import BeatSign, Firings
from settings.brokers import broker_address, store_address
from settings.errors import SettingsProblem
from settings.unknown import unknown_settings
from workers import app
from workers.broker import check_broker
from workers.redis_client import check_redis, run_store, store_client
from workers.redis_needs import OF_BROKER, OF_STORE, refusal

STATEMENT: Final = 10.0
"""Seconds that a statement may take here, where nothing large is read."""
MIB: Final = 1 << 20
SIGNS_OF_LIFE: Final = ("Redis", "answers", "writes")
"""What must be well before workers and beats can be told: one that cannot write gives no sign of
life.
"""


@dataclass(frozen=True)
class Row:
    """A finding and where it was made: ``configuration``, ``API database``, ``Redis``,
    ``schedule``, or a cell.
    """

    where: str
    finding: Finding


def run_check(form: Format) -> int:
    """Look, print, and tell by the exit code whether all is well."""
    conf = reading.load()
    conf.set_override("read_timeout", min(conf.cellkeeper.read_timeout, STATEMENT), "cellkeeper")
    rows = [Row("configuration", finding) for finding in _configuration(conf)]
    entries = _entries(conf)
    commands = _commands(entries)
    cells, api, found = _api(conf, commands)
    rows += [Row("API database", finding) for finding in found]
    results = _look_at_cells(conf, cells, commands)
    names = labels(results)
    apart = versions_at_odds(
        {name: one.outcome.schema for name, one in zip(names, results, strict=True)}
    )
    rows += [Row("cells", apart)] if apart else []
    rows += [Row(where, finding) for where, finding in look_at_throttle(conf, cells)]
    workers: dict[str, set[str] | None] | None = None
    if conf.celery.broker_url:
        found = try_out("Redis", lambda: _redis(conf), (RedisError, SettingsProblem))
        rows += [Row("Redis", finding) for finding in found]
        if not is_failed([one for one in found if one.subject in SIGNS_OF_LIFE]):
            workers = run_store(conf).workers()
        rows += [Row("broker", finding) for finding in _broker(conf)]
        rows += [
            Row("schedule", finding)
            for finding in _schedule(conf, entries, reachable=workers is not None)
        ]
    cell_rows = [_findings(result, workers) for result in results]
    code = (
        Exit.FAILED
        if is_failed([row.finding for row in rows] + list(chain(*cell_rows)))
        else Exit.WELL
    )
    if form == "json":
        rows += [
            Row(name, finding)
            for name, found in zip(names, cell_rows, strict=True)
            for finding in found
        ]
        put_json(_as_data(code, rows, api, results))
    else:
        rows += [
            Row("cells", finding)
            for finding in not_allowed_in(dict(zip(names, results, strict=True)))
        ]
        rows += [row for n, name in enumerate(names) for row in _shown(name, cell_rows[n])]
        lines = (
            (row.where, row.finding.subject, row.finding.verdict, row.finding.detail)
            for row in rows
        )
        put(table(("Where", "What", "Verdict", "Detail"), lines))
    return code


def _configuration(conf: cfg.ConfigOpts) -> list[Finding]:
    files = [*conf.config_file, *(conf.config_dir or ())]
    read = ", ".join(map(str, files)) or "no file is there: name one with --config-file"
    found = [Finding("files", Verdict.OK if files else Verdict.WARNING, read)]
    found += [
        Finding("settings", Verdict.FAILED, str(setting)) for setting in unknown_settings(conf)
    ]
    if not conf.celery.broker_url:
        why = (
            "no broker_url in section [celery]: every command works in its own process, nothing "
            "is scheduled"
        )
        found.append(Finding("workers", Verdict.WARNING, why))
    found.append(Finding("connections", Verdict.OK, _connections(conf)))
    return found


def _connections(conf: cfg.ConfigOpts) -> str:
    """What bounds the connections to a database server."""
    whose = "of all workers together" if conf.celery.broker_url else "of each command"
    most = conf.cellkeeper.concurrency_per_server
    return f"at most {most} to one database server at once, {whose} (concurrency_per_server)"


def _entries(conf: cfg.ConfigOpts) -> list[Entry] | InvalidSchedule:
    """What is scheduled, where there is a Redis; or why it would be refused."""
    if not conf.celery.broker_url:
        return []
    try:
        return reading.read_entries(conf)
    except InvalidSchedule as refused:
        return refused


def _commands(entries: list[Entry] | InvalidSchedule) -> tuple[str, ...]:
    """The commands for which the grants must be enough."""
    if isinstance(entries, InvalidSchedule) or not entries:
        return USUAL
    return tuple(dict.fromkeys(entry.command.path for entry in entries))


def _api(
    conf: cfg.ConfigOpts, commands: Sequence[str]
) -> tuple[list[Cell], Findings, list[Finding]]:
    """The cells, what was found in the API database, and that in words."""
    cells: list[Cell] = []
    looks: list[Findings] = []

    def look() -> Sequence[Finding]:
        api = api_database(conf)
        looks.append(look_at_api(api, commands))
        cells.extend(mapped_cells(conf, api))
        if not cells:
            return [*looks[0].found, Finding("cells", Verdict.FAILED, "no cell is mapped")]
        return [*looks[0].found, Finding("cells", Verdict.OK, f"{len(cells)} are mapped")]

    found = try_out("database", look)
    return cells, (looks or [Findings()])[0], found


def _look_at_cells(
    conf: cfg.ConfigOpts, cells: Sequence[Cell], commands: tuple[str, ...]
) -> list[CellResult[Findings]]:
    """Within the limits of all commands: a server that Nova needs has no connection for each of its
    cells to spare.
    """
    own = conf.cellkeeper
    engine = LocalEngine(own.concurrency, own.concurrency_per_server)
    return engine.work(
        LOOK, Params(commands, Limits(seconds=STATEMENT)), targets(conf, cells, None)
    )


def _redis(conf: cfg.ConfigOpts) -> list[Finding]:
    """Look at the store of runs, which may be the broker, too."""
    client = store_client(conf, 0)
    is_broker = broker_address(conf) == store_address(conf)
    check_redis(client, [*OF_STORE, *OF_BROKER] if is_broker else OF_STORE)
    told = client.info()
    seconds, micros = client.time()
    clock = datetime.fromtimestamp(int(seconds) + int(micros) / 1e6, UTC) - datetime.now(UTC)
    return [
        Finding("answers", Verdict.OK, f"Redis {told.get('redis_version')}, {_memory(told)}"),
        _writes(refusal(client)),
        _eviction(told),
        _persistence(told),
        clock_finding(clock),
    ]


def _broker(conf: cfg.ConfigOpts) -> list[Finding]:
    """Look at what carries messages, unless it is the store of runs."""
    if broker_address(conf) == store_address(conf):
        return []

    def look() -> list[Finding]:
        app.configure(conf)
        check_broker(app.app, conf)
        return [Finding("answers", Verdict.OK, "it can be used")]

    return try_out("answers", look, (RedisError, SettingsProblem, BrokerAway))


def _writes(refused: Exception | None) -> Finding:
    if refused:
        return Finding("writes", Verdict.FAILED, f"it refuses them, runs wait: {refused}")
    return Finding("writes", Verdict.OK, "it takes them")


def _memory(told: dict[str, Any]) -> str:
    limit = int(told.get("maxmemory", 0))
    return f"{int(told['used_memory']) / MIB:.1f} MiB in use" + (
        f" of {limit / MIB:.0f}" if limit else ""
    )


def _eviction(told: dict[str, Any]) -> Finding:
    policy, limit = told.get("maxmemory_policy", "noeviction"), int(told.get("maxmemory", 0))
    if limit and policy != "noeviction":
        return Finding(
            "eviction",
            Verdict.FAILED,
            f"{policy} drops runs and messages: set maxmemory-policy noeviction",
        )
    return Finding("eviction", Verdict.OK, "nothing is dropped")


def _persistence(told: dict[str, Any]) -> Finding:
    if not int(told.get("aof_enabled", 0)):
        return Finding("persistence", Verdict.WARNING, "a restart forgets runs: set appendonly yes")
    return Finding("persistence", Verdict.OK, "appendonly")


def _schedule(
    conf: cfg.ConfigOpts, entries: list[Entry] | InvalidSchedule, *, reachable: bool
) -> list[Finding]:
    """The entries and the beats.

    :param reachable: whether Redis answers, and takes the signs of life of the beats
    """
    if isinstance(entries, InvalidSchedule):
        return [Finding("entry", Verdict.FAILED, line) for line in entries.lines]
    if not entries:
        return [
            Finding(
                "entries",
                Verdict.WARNING,
                "nothing is scheduled: option enabled of section [schedule]",
            )
        ]
    if not reachable:
        now = datetime.now(UTC)
        return [_next_finding(entry, now) for entry in entries]
    firings = reading.firings(conf)
    now = firings.now()
    return [_entry_finding(entry, firings, now) for entry in entries] + _beat_findings(
        firings.living_beats()
    )


def _entry_finding(entry: Entry, firings: Firings, now: datetime) -> Finding:
    """:param now: by the clock of Redis"""
    last = firings.last(entry)
    if last and last.nominal > now:
        problem = (
            f"{entry.name}: its last firing lies in the future, {entry.format_time(last.nominal)}: "
            "a clock was wrong; "
            "a beat whose clock is right puts it straight"
        )
        return Finding("entry", Verdict.FAILED, problem)
    return _next_finding(entry, now)


def _next_finding(entry: Entry, now: datetime) -> Finding:
    return Finding(
        "entry", Verdict.OK, f"{entry.name}: next at {entry.format_time(entry.next_due(now))}"
    )


def _beat_findings(beats: Sequence[BeatSign]) -> list[Finding]:
    findings = [
        Finding("beats", Verdict.FAILED, f"{beat.name} starts nothing: {beat.problem}")
        for beat in beats
        if beat.problem
    ]
    working = [beat.name for beat in beats if not beat.problem]
    if working:
        findings.append(Finding("beats", Verdict.OK, ", ".join(working)))
    elif not findings:
        findings.append(
            Finding("beats", Verdict.FAILED, "none is running: start one with: cellkeeper beat")
        )
    return findings


def _findings(
    result: CellResult[Findings], workers: dict[str, set[str] | None] | None
) -> list[Finding]:
    """All that was found of a cell.

    :param workers: None: they cannot be told
    """
    found = list(result.outcome.found)
    if result.failure:
        found.append(Finding("database", Verdict.FAILED, result.failure.reason))
    else:
        found.append(_backlog_finding(result.outcome.backlog))
    if workers is not None:
        number = count_serving(workers, result.cell.uuid or "")
        missing = "none serves it: start one with: cellkeeper worker"
        found.append(
            Finding(
                "workers",
                Verdict.OK if number else Verdict.FAILED,
                str(number) if number else missing,
            )
        )
    return found


def _backlog_finding(backlog: DeletedRows) -> Finding:
    detail = f"{'at least ' if backlog.uncounted else ''}{backlog.rows:,} deleted rows"
    if backlog.oldest:
        age: timedelta = datetime.now(UTC).replace(tzinfo=None) - backlog.oldest
        detail += f", the oldest of {backlog.oldest:%Y-%m-%d}, {age.days} days ago"
    return Finding("backlog", Verdict.OK, detail)


def _shown(name: str, found: Sequence[Finding]) -> list[Row]:
    """A cell in the table: its backlog, and what is not well. The rest stands in the JSON."""
    return [
        Row(name, one) for one in found if one.verdict is not Verdict.OK or one.subject == "backlog"
    ]


def _as_data(
    code: Exit, rows: Sequence[Row], api: Findings, results: Sequence[CellResult[Findings]]
) -> dict[str, Any]:
    return {
        "exit_code": int(code),
        "findings": [
            {"where": row.where, "what": row.finding.subject} | _told(row.finding) for row in rows
        ],
        "api_database": _database_as_data(api),
        "cells": [
            {
                "cell": result.cell.name,
                "uuid": result.cell.uuid,
                **_database_as_data(result.outcome),
                "deleted_rows": result.outcome.backlog.rows,
                "deleted_rows_by_table": result.outcome.backlog.tables,
                "oldest": result.outcome.backlog.oldest,
                "not_fully_counted": result.outcome.backlog.uncounted,
            }
            for result in results
        ],
    }


def _database_as_data(found: Findings) -> dict[str, Any]:
    lacking = {command: lacks for command, lacks in found.lacking.items() if lacks}
    return {
        "schema": found.schema or None,
        "schema_pending": found.pending if found.schema else None,
        "lacking_grants": lacking if found.lacking else None,
    }


def _told(finding: Finding) -> dict[str, str]:
    return {"verdict": finding.verdict, "detail": finding.detail}
