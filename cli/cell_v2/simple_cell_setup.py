"""``cell_v2 simple_cell_setup``: cell0, and one cell with its hosts and instances."""

from cli.cell_v2.configured import ConfiguredCloud, UnusableUrl
from cli.cell_v2.map_cell0 import map_cell0_in
from cli.cell_v2.map_cell_and_hosts import map_hosts_in
from cli.output import say
from jobs.action import Target
from jobs.cell_v2.simple_cell_setup import Exit, map_all_instances
from jobs.schema import upgrade
from novadb.cells import CELL0
from novadb.errors import DatabaseProblem
from novadb.migrations.upgrade import MAIN_SCHEMA


def simple_cell_setup(transport_url: str | None) -> int:
    """Do each part as its own command would; what is done already is skipped."""
    cloud = ConfiguredCloud.load()
    try:
        transport = cloud.usable_transport_url(transport_url)
    except UnusableUrl as error:
        say(str(error))
        return Exit.NO_HOSTS_OR_INVALID_URL
    map_cell0_in(cloud, None)
    _sync_cell0(cloud)
    mapped = map_hosts_in(cloud, transport)
    if mapped.cell is None:
        return Exit.NO_HOSTS_OR_INVALID_URL
    cell = cloud.find_cell(mapped.cell)
    assert cell is not None
    refused = map_all_instances(Target(cell.cell(cloud.api.timeouts), cloud.api))
    for uuid, reason in refused.items():
        say(f"Instance {uuid} could not be mapped: {reason}")
    return Exit.REFUSED if mapped.refused or refused else Exit.SET_UP


def _sync_cell0(cloud: ConfiguredCloud) -> None:
    """Create cell0's tables. As in the stock tool, a failure does not end the setup."""
    cell0 = cloud.find_cell(CELL0)
    try:
        if cell0 is not None:
            upgrade(cell0.database(cloud.api.timeouts), MAIN_SCHEMA, tell=say)
    except DatabaseProblem as problem:
        say(f"Unable to sync cell0 schema: {problem}")
