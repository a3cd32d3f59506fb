"""The category ``placement``.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

from typing import Any

from cli.grammar import Category, Command
from cli.options import CONCURRENCY, FORMAT, option

placement = Category("placement", help="Commands for managing the resource providers and allocations in Placement.")


@placement.command("sync_aggregates", cls=Command)
@option("--verbose", is_flag=True, help="Print the hosts, and what is added.")
@CONCURRENCY
@FORMAT
def sync_aggregates(**options: Any) -> int:
    """Mirror host aggregates to the aggregates of resource providers.

    Nothing is removed. All hosts are gone through, whatever is wrong with one of them; of several codes the first
    of 255, 2, 3, 1, 6, 5, 4 is returned.

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

    return sync(**options)


@placement.command("audit", cls=Command)
@option("--verbose", is_flag=True, help="Print what the stock tool prints, line by line.")
@option("--resource_provider", metavar="UUID", help="Audit one resource provider only.")
@option("--delete", "-delete", is_flag=True, help="Delete the orphaned allocations that are found.")
@CONCURRENCY
@FORMAT
def audit(**options: Any) -> int:
    """Find allocations that belong to no instance and to no migration.

    Without --delete nothing is changed. What a cell that does not answer would have to say of is not audited, and
    nothing of it deleted.

    \b
    Return codes:
      0    No orphaned allocations were found.
      1    An unexpected error occurred.
      3    Orphaned allocations were found.
      4    All found orphaned allocations were deleted.
      127  Invalid input.
    """
    from cli.placement.audit import audit as run_audit

    return run_audit(**options)
