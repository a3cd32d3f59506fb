"""Noticing, within one cell, that a service has become unusable."""

from typing import NamedTuple

from clients.errors import ServiceProblem, ServiceUnavailable
from clients.placement import Placement
from jobs.placement.failures import FailuresInARow, is_about_one_item, is_service_down
from jobs.placement.verdicts import HealProblem, Verdict


class _Stop(NamedTuple):
    """Why nothing more can be done, and the instance whose problem says so."""

    problem: ServiceProblem
    instance: str


class ServiceWatch:
    """Judges failed requests. Shared by all threads that work on a cell."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._failures = FailuresInARow()
        self._stops: list[_Stop] = []  # threads may add several; the first one counts

    @property
    def stopped(self) -> ServiceProblem | None:
        """Why nothing more can be done in this cell, once that is so."""
        return self._stops[0].problem if self._stops else None

    @property
    def stopped_at(self) -> str:
        """The instance whose problem says why; empty: no instance's does."""
        return self._stops[0].instance if self._stops else ""

    def stop(self, problem: ServiceProblem, instance: str = "") -> None:
        """Note that nothing more can be done in this cell.

        :param instance: the one whose problem says why
        """
        self._stops.append(_Stop(problem, instance))

    def record_success(self) -> None:
        """Note that a request was answered."""
        self._failures.record_success()

    def judge(self, problem: HealProblem, cause: ServiceProblem) -> HealProblem | Verdict:
        """What becomes of an instance after a failed request.

        The end of a service is reported once, by the first instance that meets it.
        """
        self._failures.record_failure(cause)
        if is_about_one_item(cause):
            return problem
        if is_service_down(cause) or self._failures.too_many:
            self.stop(cause, problem.instance)
        if self.stopped_at in ("", problem.instance):
            return problem
        return Verdict.NOT_LOOKED_AT

    def probe_placement(self, cause: ServiceProblem, uuid: str, node: str | None = None) -> None:
        """After an answer that is of no use for one instance, see whether Placement works at all.

        :param uuid: the instance's
        :param node: its compute node, if that is known
        """
        is_useless_answer = isinstance(cause, ServiceUnavailable) and cause.answered
        if not is_useless_answer or cause.service != self._placement.name:
            return
        try:
            self._placement.providers(in_tree=node or uuid)
        except ServiceProblem as problem:
            self.stop(problem, uuid)
