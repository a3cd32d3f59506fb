"""``cell_v2 map_cell_and_hosts``: map the configured database as a cell, and its hosts."""

from cli.cell_v2.cloud import Cloud, UnusableUrl
from cli.output import put, say
from jobs.cell_v2.map_cell_and_hosts import Exit, MappedHosts, Params, map_hosts
from runs.targets import own_database


def map_cell_and_hosts(transport_url: str | None, name: str | None, *, verbose: bool) -> int:
    """Check the transport URL, map what is not mapped, say what was."""
    cloud = Cloud.configured()
    try:
        transport = cloud.transport_url(transport_url)
    except UnusableUrl as error:
        say(str(error))
        return Exit.INVALID_URL
    mapped = map_to(cloud, transport, name, verbose)
    return Exit.REFUSED if mapped.refused else Exit.MAPPED


def map_to(cloud: Cloud, transport_url: str, name: str | None = None, verbose: bool = False) -> MappedHosts:
    """Map the hosts, and say what was done.

    :raises DatabaseProblem: a database cannot be used
    """
    own = own_database(cloud.conf)
    done = map_hosts(cloud.api, own, Params(name, transport_url, cloud.conf.database.connection))
    if done.cell is None:
        put("No hosts found to map to cell, exiting.")
        return done
    for host, uuid in done.there if verbose else ():
        put(f"Host {host} is already mapped to cell {uuid}")
    if not done.added and not done.refused:
        put("All hosts are already mapped to cell(s).")
    elif verbose:
        put(done.cell)
    for host, why in done.refused.items():
        say(f"Host {host} could not be mapped: {why}")
    return done
