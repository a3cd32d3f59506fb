"""What a failed request says of the service: whether there is a use in asking for more."""

from typing import Final

from clients.errors import RequestForbidden, RequestRefused, ServiceProblem, ServiceUnavailable

IN_A_ROW: Final = 20  # failures after which nothing more is tried


def is_of_one(problem: ServiceProblem) -> bool:
    """Whether a problem is that of what was asked for, and says nothing of the service."""
    return isinstance(problem, RequestRefused) and not isinstance(problem, RequestForbidden)


def is_end_of(problem: ServiceProblem) -> bool:
    """Whether a problem is the end of a service: one instance may be too much for it while it answers others."""
    return not (is_of_one(problem) or (isinstance(problem, ServiceUnavailable) and problem.answered))


class FailuresInARow:
    """Counts failures without a success between them. May be shared by threads."""

    def __init__(self, limit: int = IN_A_ROW) -> None:
        self._limit = limit
        self._failures = 0

    def note(self, problem: ServiceProblem | None) -> None:
        """Remember how a request ended. A refusal concerns what was asked for, the next one may well succeed."""
        if problem is None or is_of_one(problem):
            self._failures = 0
        else:
            self._failures += 1

    @property
    def too_many(self) -> bool:
        """Whether nothing more should be tried."""
        return self._failures >= self._limit
