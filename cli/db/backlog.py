"""What ``--dry-run`` prints."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cli.output import cell_as_data, labels, put, put_json, say_failures, table
from cli.run_options import RunOptions
from jobs.action import CellResult
from jobs.db.backlog import Backlog

HEADER = ("Table", "Rows", "Oldest deletion (UTC)", "Newest deletion (UTC)")


def put_backlog(results: Sequence[CellResult[Backlog]], all_cells: bool, run: RunOptions) -> None:
    """Print what waits, by cell and table; the cells that could not be looked at on standard
    error.
    """
    if run.json:
        put_json({"dry_run": True, "cells": [_as_data(result) for result in results]})
    else:
        rows = [
            (
                f"{label}.{name}" if all_cells else name,
                waiting.rows,
                _day(waiting.oldest),
                _day(waiting.newest),
            )
            for label, result in zip(labels(results), results, strict=True)
            for name, waiting in result.outcome.tables.items()
        ]
        if rows:
            put(table(HEADER, sorted(rows)))
        elif not any(result.failure for result in results):
            put("There is nothing to do.")
    say_failures(results, "counted")


def _as_data(result: CellResult[Backlog]) -> dict[str, Any]:
    return cell_as_data(result) | {
        "waiting": {name: vars(rows) for name, rows in result.outcome.tables.items()}
    }


def _day(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""
