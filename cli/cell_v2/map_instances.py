"""``cell_v2 map_instances``: map the instances of a cell to it."""

from cli.cell_runs import Runner
from cli.cell_v2.configured import ConfiguredCloud, unknown_cell_line
from cli.output import cell_as_data, put_json, say, say_failures
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from jobs.action import Target
from jobs.cell_v2.map_instances import ACTION, MAX_NAMED, Exit, Params


def map_instances(run: RunOptions, cell_uuid: str, max_count: str | None, *, reset: bool) -> int:
    """Check the limit, then the cell, as the stock tool does; run; print only JSON, if asked."""
    try:
        limit = int(max_count) if max_count is not None else None
    except ValueError:
        limit = 0
    if limit is not None and limit < 1:
        say(f"Must supply a positive value for max-count, not {max_count}")
        return Exit.INVALID_MAX_COUNT
    cloud = ConfiguredCloud.load()
    cell = cloud.find_cell(cell_uuid)
    if cell is None:
        say(unknown_cell_line(cell_uuid))
        return Exit.ERROR
    params = Params(limit, reset)
    with graceful_stop() as stop:
        runner = Runner(cloud.conf, run, stop)
        results = runner.run(
            [(ACTION, params)], [Target(cell.cell(cloud.api.timeouts), cloud.api)]
        ).phases[0]
    code = ACTION.collapse(results, params)
    if run.json:
        cells = [cell_as_data(result) | vars(result.outcome) for result in results]
        put_json({"exit_code": int(code), "cells": cells})
    for result in results:
        for uuid, reason in result.outcome.named.items():
            say(f"Instance {uuid} could not be mapped: {reason}")
        if result.outcome.refused > MAX_NAMED:
            say(f"{result.outcome.refused} instances could not be mapped in all")
    say_failures(results, "added")
    return code
