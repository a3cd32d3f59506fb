"""The inline engine: the cells of a run on threads of this process."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

from clients.errors import ServiceProblem
from jobs.action import Action, CellResult, Failure, O, P, Target, failure_of
from novadb.cells import Cell
from novadb.errors import DatabaseProblem

LOG = logging.getLogger("cellkeeper.runs")
T = TypeVar("T")

# How often the waiting thread looks up: so that a signal is handled even where a lock wait would swallow it.
WAKE: Final = 0.5  # seconds


class Listener(Protocol):
    """Who is told how a run goes. Called from several threads."""

    def started(self, cell: Cell) -> None:
        """Work in the cell begins."""

    def stepped(self, cell: Cell, outcome: Any) -> None:
        """A step is done; ``outcome`` is of this step alone."""

    def finished(self, result: CellResult[Any]) -> None:
        """Nothing more happens in the cell."""


class Silent:
    """A listener that does nothing."""

    def started(self, cell: Cell) -> None: ...

    def stepped(self, cell: Cell, outcome: Any) -> None: ...

    def finished(self, result: CellResult[Any]) -> None: ...


@dataclass
class InlineEngine:
    """Works cells in parallel, within limits.

    :ivar concurrency: cells at the same time
    :ivar per_server: cells at the same time whose databases share a server
    :ivar stop: once set, every cell ends after its current step
    """

    concurrency: int
    per_server: int
    listener: Listener = field(default_factory=Silent)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, action: Action[P, O], params: P, targets: Sequence[Target]) -> list[CellResult[O]]:
        """Carry an action out in each target.

        :returns: a result per target, in their order. What went wrong in a cell is in its result; nothing is raised
        """
        if action.in_turn(params):
            return self._in_turn(action, params, targets)
        return self._each(targets, lambda target: self._work(action, params, target), self._not_begun(action))

    def _in_turn(self, action: Action[P, O], params: P, targets: Sequence[Target]) -> list[CellResult[O]]:
        """One cell after the other, on one budget. First all are asked at once whether they have work."""
        looks: list[bool | Failure] = [True]
        if len(targets) > 1:
            looks = self._each(targets, lambda target: self._look(action, params, target), lambda _: False)
        results = []
        left: P | None = params
        for target, look in zip(targets, looks, strict=True):
            if look is False and not self.stop.is_set():
                result = CellResult(target.cell, action.nothing)
                self.listener.finished(result)
            elif isinstance(look, Failure) and not self.stop.is_set():
                result = CellResult(target.cell, action.nothing, look, complete=False)
                self.listener.finished(result)
            elif left is None or self.stop.is_set():
                result = self._not_begun(action)(target)
            else:
                result = self._work(action, left, target)
                left = action.next_params(left, result.outcome)
                if left is None:  # whether there would have been more is not known
                    result = replace(result, complete=False)
            results.append(result)
        return results

    def _not_begun(self, action: Action[P, O]) -> Callable[[Target], CellResult[O]]:
        def tell(target: Target) -> CellResult[O]:
            result = CellResult(target.cell, action.nothing, complete=False)
            self.listener.finished(result)
            return result

        return tell

    def _look(self, action: Action[P, O], params: P, target: Target) -> bool | Failure:
        try:
            return action.has_work is None or action.has_work(target, params)
        except Exception as error:
            return self._failure(error, target)

    def _work(self, action: Action[P, O], params: P, target: Target) -> CellResult[O]:
        """The work in one cell, from its beginning to its end, the stop, or an error."""
        self.listener.started(target.cell)
        begin = time.monotonic()
        outcome, failure, complete = action.nothing, None, False
        steps = action.work(target, params, None)
        try:
            for step in steps:
                outcome += step.outcome
                self.listener.stepped(target.cell, step.outcome)
                if self.stop.is_set() or (step.outcome.rows and self.stop.wait(action.pause(params))):
                    break
            else:
                complete = True
        except Exception as error:
            failure = self._failure(error, target)
        finally:
            steps.close()
        result = CellResult(target.cell, outcome, failure, complete, time.monotonic() - begin)
        self.listener.finished(result)
        return result

    @staticmethod
    def _failure(error: Exception, target: Target) -> Failure:
        if not isinstance(error, DatabaseProblem | ServiceProblem):
            LOG.debug("%s: the work failed", target.cell.label, exc_info=True)
        return failure_of(error, target)

    def _each(self, targets: Sequence[Target], work: Callable[[Target], T], skip: Callable[[Target], T]) -> list[T]:
        """Call ``work`` for each target on threads, ``skip`` for those not begun when the stop comes."""
        results: dict[int, T] = {}
        running: dict[Future[T], int] = {}
        waiting = list(range(len(targets)))
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="cell") as pool:
            while waiting or running:
                if self.stop.is_set():
                    results |= {number: skip(targets[number]) for number in waiting}
                    waiting = []
                for number in self._startable(waiting, list(running.values()), targets):
                    running[pool.submit(work, targets[number])] = number
                    waiting.remove(number)
                done, _ = wait(running, WAKE, FIRST_COMPLETED)
                results |= {running.pop(future): future.result() for future in done}
        return [results[number] for number in range(len(targets))]

    def _startable(self, waiting: Sequence[int], running: Sequence[int], targets: Sequence[Target]) -> list[int]:
        """Who may begin: in order, as far as the limits allow."""
        begun = list(running)
        for number in waiting:
            server = _server(targets[number])
            neighbours = sum(_server(targets[other]) == server for other in begun)
            if len(begun) < self.concurrency and neighbours < self.per_server:
                begun.append(number)
        return begun[len(running) :]


def _server(target: Target) -> str | None:
    database = target.cell.database
    return None if isinstance(database, DatabaseProblem) else database.server
