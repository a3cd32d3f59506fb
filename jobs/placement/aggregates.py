"""The aggregates of resource providers: what a host's provider lacks is added."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from clients.errors import RequestRefused, ServiceProblem
from clients.placement import Placement
from novadb.attempts import attempts
from novadb.names import fold_name

NOT_FOUND: Final = 404
CONFLICT: Final = 409  # the generation; at this microversion the answer holds no code that says so


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


@dataclass(frozen=True)
class Wish:
    """The aggregates that a host's provider should be in.

    :ivar provider: its uuid, which is the compute node's
    """

    host: str
    provider: str
    aggregates: frozenset[str]


@dataclass(frozen=True)
class Problem:
    """Why a host is not mirrored.

    :ivar code: the return code that stands for it
    :ivar text: what is said of it
    """

    host: str
    code: int
    text: str


def add(placement: Placement, wish: Wish) -> frozenset[str] | Problem:
    """Put a provider into the aggregates that it lacks; it stays in those that it is in.

    :returns: the aggregates that were added
    """
    added, failed = frozenset[str](), None
    for _ in attempts():
        try:
            present, generation = placement.aggregates(wish.provider)
        except ServiceProblem as problem:
            said = f"Failed to get aggregates for resource provider with UUID {wish.provider}: {problem}"
            return _problem(wish, problem, Exit.PLACEMENT_ERROR, said)
        known = set(map(fold_name, present))
        lacking = frozenset(uuid for uuid in wish.aggregates if fold_name(uuid) not in known)
        if not lacking:
            return added  # by us if we have tried, though the answer was lost
        added = lacking
        try:
            placement.set_aggregates(wish.provider, present | lacking, generation)
        except ServiceProblem as problem:
            said = f"Failed updating aggregates of host ({wish.host}), provider ({wish.provider}). Error: {problem}"
            again = problem.status == CONFLICT if isinstance(problem, RequestRefused) else failed is None
            failed = _problem(wish, problem, Exit.UPDATE_FAILED, said)
            if not again:
                break
        else:
            return added
    assert failed
    return failed


def _problem(wish: Wish, problem: ServiceProblem, code: int, said: str) -> Problem:
    if isinstance(problem, RequestRefused) and problem.status == NOT_FOUND:
        said = f"Placement has no resource provider {wish.provider} for host {wish.host}"
        return Problem(wish.host, Exit.NO_PROVIDER, said)
    return Problem(wish.host, code, said)
