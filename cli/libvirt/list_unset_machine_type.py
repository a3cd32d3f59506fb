"""``libvirt list_unset_machine_type``: from the options to the exit code."""

from cli import configuration
from cli.cell_runs import Runner
from cli.libvirt.cells import UnknownCell, choose_cells
from cli.output import cell_as_data, put, put_json, say, say_failures
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from jobs.libvirt.list_unset_machine_type import ACTION, Exit, Params
from runs.targets import api_database, mapped_cells, targets


def list_unset(run: RunOptions, cell_uuid: str | None) -> int:
    """Choose the cells, run, print."""
    conf = configuration.load()
    api = api_database(conf)
    try:
        cells = choose_cells(mapped_cells(conf, api), cell_uuid)
    except UnknownCell as error:
        say(str(error))
        return Exit.UNKNOWN_CELL
    params = Params()
    with graceful_stop() as stop:
        runner = Runner(conf, run, stop)
        results = runner.run([(ACTION, params)], targets(conf, cells, None)).phases[0]
    code = ACTION.collapse(results, params)
    if run.json:
        cells_as_data = [
            cell_as_data(result) | {"instances": result.outcome.uuids} for result in results
        ]
        put_json({"exit_code": int(code), "cells": cells_as_data})
    elif code == Exit.NONE_FOUND:
        put("No instances found without hw_machine_type set.")
    else:
        for result in results:
            for uuid in result.outcome.uuids:
                put(uuid)
    say_failures(results, "found")
    return code
