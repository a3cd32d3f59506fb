"""``placement sync_aggregates``: host aggregates mirrored to the aggregates of resource providers.

The cells say which compute node, and so which provider, a host has; the rest is between the API database and Placement.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, Self

from sqlalchemy import text

from jobs.action import Action, CellResult, Cursor, Step, Target
from jobs.retry import transactionally
from novadb.engine import Database

NODES: Final = text("SELECT host, uuid FROM compute_nodes WHERE deleted = 0 AND host IS NOT NULL ORDER BY id")
MEMBERS: Final = text(
    "SELECT a.uuid AS aggregate, a.name, h.host, m.cell_id FROM aggregates a "
    "LEFT JOIN aggregate_hosts h ON h.aggregate_id = a.id LEFT JOIN host_mappings m ON m.host = h.host "
    "ORDER BY a.id, h.id"
)


class Exit(IntEnum):
    """The manual's return codes."""

    SYNCED = 0
    SEVERAL_NODES = 1
    PLACEMENT_ERROR = 2
    UPDATE_FAILED = 3
    NO_HOST_MAPPING = 4
    NO_COMPUTE_NODE = 5
    NO_PROVIDER = 6
    ERROR = 255


BADNESS: Final = (
    Exit.ERROR, Exit.PLACEMENT_ERROR, Exit.UPDATE_FAILED, Exit.SEVERAL_NODES, Exit.NO_PROVIDER, Exit.NO_COMPUTE_NODE,
    Exit.NO_HOST_MAPPING, Exit.SYNCED,
)  # fmt: skip
"""The codes from worst to best: what failed, then what is wrong with the cloud, in the stock tool's order."""


@dataclass(frozen=True)
class Params:
    """The command has no options that matter to the work."""


@dataclass(frozen=True)
class Nodes:
    """The compute nodes of a cell.

    :ivar by_host: their uuids by host, in small letters
    """

    by_host: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        return replace(self, by_host={**self.by_host, **other.by_host})

    @property
    def by_table(self) -> Mapping[str, int]:
        """No rows are written."""
        return {}

    @property
    def rows(self) -> int:
        """None."""
        return 0


@dataclass(frozen=True)
class Member:
    """A host in an aggregate.

    :ivar host: None in an aggregate without hosts
    :ivar cell_id: of the mapping that the host's mapping names; None: it is not mapped
    """

    aggregate: str
    name: str
    host: str | None
    cell_id: int | None


@dataclass(frozen=True)
class Problem:
    """Why a host is not mirrored.

    :ivar exit: the code for it
    :ivar text: what is said of it
    """

    host: str
    exit: Exit
    text: str


def work(target: Target, _params: Params, _cursor: Cursor | None) -> Generator[Step[Nodes]]:
    """Read the compute nodes of a cell.

    :raises DatabaseProblem: the cell's database cannot be used
    """
    with target.database.connect() as cell:
        rows = transactionally(lambda: cell.execute(NODES).all(), cell, name=str(target.database))
    by_host: dict[str, tuple[str, ...]] = {}
    for host, uuid in rows:
        by_host[host.casefold()] = (*by_host.get(host.casefold(), ()), uuid)
    yield Step(Nodes(by_host), {})


def members(api: Database) -> list[Member]:
    """All hosts of all aggregates, in the order of the stock tool.

    :raises DatabaseProblem: the API database cannot be used
    """
    with api.connect() as link:
        rows = transactionally(lambda: link.execute(MEMBERS).all(), link, name=str(api))
    return [Member(*row) for row in rows]


@dataclass(frozen=True)
class Wish:
    """The aggregates that a host's provider should be in.

    :ivar provider: its uuid, which is the compute node's
    """

    host: str
    provider: str
    aggregates: frozenset[str]


def plan(found: Sequence[Member], cells: Mapping[int, CellResult[Nodes]]) -> tuple[list[Wish], list[Problem]]:
    """Find the provider of each host.

    :param cells: those that were read, by the ids of their mappings
    """
    wanted: dict[str, set[str]] = {}
    homes: dict[str, int | None] = {}
    for member in found:
        if member.host:
            wanted.setdefault(member.host, set()).add(member.aggregate)
            homes[member.host] = member.cell_id
    wishes, problems = [], []
    for host, aggregates in wanted.items():
        provider = _provider_of(host, homes[host], cells)
        if isinstance(provider, Problem):
            problems.append(provider)
        else:
            wishes.append(Wish(host, provider, frozenset(aggregates)))
    return wishes, problems


def _provider_of(host: str, home: int | None, cells: Mapping[int, CellResult[Nodes]]) -> str | Problem:
    if home is None:
        return Problem(host, Exit.NO_HOST_MAPPING, "the host is not mapped to a cell")
    if home not in cells or cells[home].failure or not cells[home].complete:
        return Problem(host, Exit.ERROR, "its cell was not read")
    nodes = cells[home].outcome.by_host.get(host.casefold(), ())
    if not nodes:
        return Problem(host, Exit.NO_COMPUTE_NODE, "its cell has no compute node for it")
    if len(nodes) > 1:
        return Problem(
            host,
            Exit.SEVERAL_NODES,
            f"Unexpected number of compute node records ({len(nodes)}) found for host {host}. There should only be a "
            "one-to-one mapping.",
        )
    return nodes[0]


def collapse(results: Sequence[CellResult[Nodes]], _params: Params, problems: Sequence[Problem] = ()) -> Exit:
    """The exit code of the whole: the worst of what went wrong, by ``BADNESS``."""
    found = {problem.exit for problem in problems}
    if any(result.failure or not result.complete for result in results):
        found.add(Exit.ERROR)
    return min(found or {Exit.SYNCED}, key=BADNESS.index)


ACTION: Final = Action(
    name="placement.sync_aggregates", params=Params, work=work, nothing=Nodes(), collapse=collapse, writes=False
)
