"""What a failed request says about the service: whether it makes sense to send more."""

from typing import Final

from clients.errors import RequestForbidden, RequestRefused, ServiceProblem, ServiceUnavailable

MAX_FAILURES_IN_A_ROW: Final = 20  # after which nothing more is tried


def is_about_one_item(problem: ServiceProblem) -> bool:
    """Whether a problem concerns only what was asked for, and says nothing about the service."""
    return isinstance(problem, RequestRefused) and not isinstance(problem, RequestForbidden)


def is_service_down(problem: ServiceProblem) -> bool:
    """Whether the service as a whole is unusable.

    An error in an answer (5xx) is not enough: one instance may be too much for a service that
    answers for all others.
    """
    if is_about_one_item(problem):
        return False
    return not (isinstance(problem, ServiceUnavailable) and problem.answered)


class FailuresInARow:
    """Counts failures without a success between them. May be shared by threads."""

    def __init__(self, limit: int = MAX_FAILURES_IN_A_ROW) -> None:
        self._limit = limit
        self._failures = 0

    def record_success(self) -> None:
        """Start counting again."""
        self._failures = 0

    def record_failure(self, problem: ServiceProblem) -> None:
        """Count a failure. A refusal is none: the next item may well succeed."""
        if is_about_one_item(problem):
            self._failures = 0
        else:
            self._failures += 1

    @property
    def too_many(self) -> bool:
        """Whether nothing more should be tried."""
        return self._failures >= self._limit
