"""``cell_v2 map_cell_and_hosts``: map the configured database as a cell, and its hosts."""

from cli.cell_v2.configured import ConfiguredCloud, UnusableUrl
from cli.output import put, say
from jobs.cell_v2.map_cell_and_hosts import Exit, MappedHosts, Params, map_hosts
from runs.targets import own_database


def map_cell_and_hosts(transport_url: str | None, name: str | None, *, verbose: bool) -> int:
    """Check the transport URL, map what is not mapped, say what is."""
    cloud = ConfiguredCloud.load()
    try:
        transport = cloud.usable_transport_url(transport_url)
    except UnusableUrl as error:
        say(str(error))
        return Exit.INVALID_URL
    mapped = map_hosts_in(cloud, transport, name, verbose)
    return Exit.REFUSED if mapped.refused else Exit.MAPPED


def map_hosts_in(
    cloud: ConfiguredCloud, transport_url: str, name: str | None = None, verbose: bool = False
) -> MappedHosts:
    """Map the hosts, and say what was done.

    :raises DatabaseProblem: a database cannot be used
    """
    params = Params(name, transport_url, cloud.conf.database.connection)
    mapped = map_hosts(cloud.api, own_database(cloud.conf), params)
    if mapped.cell is None:
        put("No hosts found to map to cell, exiting.")
        return mapped
    if verbose:
        for host, uuid in mapped.there:
            put(f"Host {host} is already mapped to cell {uuid}")
    if not mapped.added and not mapped.refused:
        put("All hosts are already mapped to cell(s).")
    elif verbose:
        put(mapped.cell)
    for host, reason in mapped.refused.items():
        say(f"Host {host} could not be mapped: {reason}")
    return mapped
