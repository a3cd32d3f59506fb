"""The category ``placement``.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

from cli.grammar import Category, Command
from cli.options import (
    DETACH,
    FORMAT,
    NO_THROTTLE,
    NO_WAIT,
    UNTIL,
    collect_into,
    concurrency,
    option,
)
from cli.placement.options import HealOptions
from cli.run_options import RunOptions

CONCURRENCY = concurrency("Process at most N cells at the same time, with at most N requests each.")

placement = Category("placement", help="Commands that bring Placement in line with the cells.")


@placement.command("heal_allocations", cls=Command)
@option("--max-count", metavar="N", help="Heal at most N instances, over all cells together.")
@option("--verbose", is_flag=True, help="Print what is done for each instance.")
@option("--dry-run", is_flag=True, help="Say what would be healed, write nothing, return 4.")
@option(
    "--instance", metavar="UUID", help="Look at this instance only; --max-count has no effect then."
)
@option("--skip-port-allocations", is_flag=True, help="Leave ports alone; Neutron is not asked.")
@option("--cell", metavar="UUID", help="Look at the instances of this cell only.")
@option(
    "--force",
    is_flag=True,
    help="With --instance: replace its allocations by what its flavor and ports need.",
)
@CONCURRENCY
@NO_WAIT
@DETACH
@UNTIL
@NO_THROTTLE
@FORMAT
@collect_into(HealOptions)
@collect_into(RunOptions)
def heal_allocations(run: RunOptions, options: HealOptions) -> int:
    """Create missing allocations of instances in Placement.

    Looks at every instance on a host, in all cells but cell0. Missing allocations are computed
    from its flavor and created on the provider of its compute node, those of ports that request
    resources as well. Allocations that belong to another project or user are given to the
    instance's. Instances in a task are left alone. In a script, repeat it with --max-count as
    long as it returns 1.

    \b
    Return codes:
      0    Allocations were created or updated.
      1    --max-count was reached and there are more instances to process.
      2    Unable to find a compute node record for a given instance.
      3    Unable to create or update allocations for an instance.
      4    Nothing was created or updated.
      5    Unable to query ports from neutron.
      6    Unable to update ports in neutron.
      7    Cannot roll back neutron port updates. Manual steps are needed.
      8    An instance with vGPU or Cyborg resources cannot be healed.
      127  Invalid input.
      255  An unexpected error occurred.
    """
    from cli.placement.heal_allocations import heal

    return heal(run, options)


@placement.command("sync_aggregates", cls=Command)
@option("--verbose", is_flag=True, help="Print the hosts and what is added.")
@CONCURRENCY
@NO_WAIT
@DETACH
@UNTIL
@NO_THROTTLE
@FORMAT
@collect_into(RunOptions)
def sync_aggregates(run: RunOptions, verbose: bool) -> int:
    """Mirror host aggregates to the aggregates of resource providers.

    Nothing is removed. A problem with one host does not keep the others from being mirrored; if
    several codes apply, the first of 255, 2, 3, 1, 6, 5, 4 is returned.

    \b
    Return codes:
      0    Successful run.
      1    A host was found with more than one matching compute node record.
      2    An unexpected error occurred while working with the placement API.
      3    Failed updating provider aggregates in placement.
      4    Host mappings not found for one or more host aggregate members.
      5    Compute node records not found for one or more hosts.
      6    Resource provider not found by uuid for a given host.
      255  An unexpected error occurred.
    """
    from cli.placement.sync_aggregates import sync

    return sync(run, verbose=verbose)


@placement.command("audit", cls=Command)
@option("--verbose", is_flag=True, help="Print what the stock tool prints, line by line.")
@option("--resource_provider", metavar="UUID", help="Audit one resource provider only.")
@option("--delete", "-delete", is_flag=True, help="Delete the orphaned allocations that are found.")
@concurrency("Read at most N cells at the same time, and send Placement at most N requests.")
@FORMAT
@collect_into(RunOptions)
def audit(run: RunOptions, verbose: bool, resource_provider: str | None, delete: bool) -> int:
    """Find allocations that belong to no instance and to no migration.

    Without --delete nothing is changed. If a cell does not answer, providers that may belong to
    it are not audited, and nothing of theirs is deleted.

    \b
    Return codes:
      0    No orphaned allocations were found.
      1    An unexpected error occurred.
      3    Orphaned allocations were found.
      4    All found orphaned allocations were deleted.
      127  Invalid input.
    """
    from cli.placement.audit import audit as run_audit

    return run_audit(run, resource_provider, delete=delete, verbose=verbose)
