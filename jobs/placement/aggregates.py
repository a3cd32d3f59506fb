"""The aggregates of resource providers: the ones that a host's provider lacks are added."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from clients.errors import RequestRefused, ServiceProblem
from clients.placement import Placement
from novadb.attempts import attempts
from novadb.names import fold_name

NOT_FOUND: Final = 404
CONFLICT: Final = 409  # of generations; at this microversion the answer has no code that says so


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
class AggregateTarget:
    """The aggregates that a host's provider should be in.

    :ivar provider: its uuid, which is that of the compute node
    """

    host: str
    provider: str
    aggregates: frozenset[str]


@dataclass(frozen=True)
class SyncProblem:
    """Why the aggregates of a host were not mirrored.

    :ivar code: the return code that it leads to
    :ivar text: a line for an operator
    """

    host: str
    code: int
    text: str


def add_missing_aggregates(
    placement: Placement, target: AggregateTarget
) -> frozenset[str] | SyncProblem:
    """Put a provider into the aggregates that it lacks. It is never taken out of any.

    :returns: the aggregates that were added
    """
    added: frozenset[str] = frozenset()
    failure: SyncProblem | None = None
    for _ in attempts():
        try:
            present, generation = placement.aggregates(target.provider)
        except ServiceProblem as problem:
            return _read_failure(target, problem)
        present_folded = {fold_name(uuid) for uuid in present}
        missing = frozenset(
            uuid for uuid in target.aggregates if fold_name(uuid) not in present_folded
        )
        if not missing:
            return added  # of an earlier attempt whose answer was lost, if there was one
        added = missing
        try:
            placement.set_aggregates(target.provider, present | missing, generation)
        except ServiceProblem as problem:
            is_first_failure = failure is None
            failure = _write_failure(target, problem)
            if not _is_worth_another_try(problem, is_first_failure):
                return failure
        else:
            return added
    assert failure
    return failure


def _is_worth_another_try(problem: ServiceProblem, is_first_failure: bool) -> bool:
    """Whether another attempt may succeed.

    Without an answer, the write may have been done all the same: one more look tells.
    """
    if isinstance(problem, RequestRefused):
        return problem.status == CONFLICT
    return is_first_failure


def _read_failure(target: AggregateTarget, problem: ServiceProblem) -> SyncProblem:
    text = f"Failed to get aggregates for resource provider with UUID {target.provider}: {problem}"
    return _missing_provider(target, problem) or SyncProblem(
        target.host, Exit.PLACEMENT_ERROR, text
    )


def _write_failure(target: AggregateTarget, problem: ServiceProblem) -> SyncProblem:
    text = (
        f"Failed updating aggregates of host ({target.host}), provider ({target.provider}). "
        f"Error: {problem}"
    )
    return _missing_provider(target, problem) or SyncProblem(target.host, Exit.UPDATE_FAILED, text)


def _missing_provider(target: AggregateTarget, problem: ServiceProblem) -> SyncProblem | None:
    if not (isinstance(problem, RequestRefused) and problem.status == NOT_FOUND):
        return None
    text = f"Placement has no resource provider {target.provider} for host {target.host}"
    return SyncProblem(target.host, Exit.NO_PROVIDER, text)
