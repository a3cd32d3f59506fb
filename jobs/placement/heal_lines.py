"""What the stock tool prints for ``heal_allocations --verbose``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jobs.placement.heal_params import Params
from jobs.placement.instances import Instance
from jobs.placement.verdicts import Decision, HealedInstance, Plan, Result, Verdict

CANDIDATES_PER_LINE: Final = 50  # the stock tool works in batches of 50 and announces each


@dataclass(frozen=True)
class HealedPage:
    """What became of a page of instances.

    :ivar decisions: by uuid; there are none for instances without a host, or in a task
    :ivar port_lines: what was said while ports were written, by uuid
    :ivar is_cut_off: whether ``--max-count`` was reached before the end of the page
    """

    instances: Sequence[Instance]
    decisions: Mapping[str, Decision]
    results: Sequence[Result]
    port_lines: Mapping[str, Iterable[str]]
    is_cut_off: bool


def lines_of_page(page: HealedPage, params: Params) -> Iterator[str]:
    """The lines for a page; they end with the last instance that ``--max-count`` allowed."""
    healed = {
        result.instance: result for result in page.results if isinstance(result, HealedInstance)
    }
    shown = page.instances
    if page.is_cut_off:
        numbers = [number for number, each in enumerate(shown) if each.uuid in healed]
        shown = shown[: max(numbers, default=-1) + 1]
    for number, instance in enumerate(shown):
        if number % CANDIDATES_PER_LINE == 0:
            candidates = min(CANDIDATES_PER_LINE, len(page.instances) - number)
            yield f"Found {candidates} candidate instances."
        yield from _lines_of_instance(page, instance, healed.get(instance.uuid), params)


def _lines_of_instance(
    page: HealedPage, instance: Instance, healed: HealedInstance | None, params: Params
) -> Iterator[str]:
    uuid = instance.uuid
    decision = page.decisions.get(uuid, Verdict.UP_TO_DATE)
    if instance.task_state:
        yield f"Instance {uuid} is undergoing a task state transition: {instance.task_state}"
    elif not instance.node:
        yield f"Instance {uuid} is not on a host."
    elif decision is Verdict.UP_TO_DATE:
        yield f"The allocation of instance {uuid} is up-to-date. Nothing to be healed."
    elif decision is not Verdict.NOT_LOOKED_AT and params.force:
        yield f"Force flag passed for instance {uuid}"
    if isinstance(decision, Plan):
        yield from decision.port_lines
        yield from page.port_lines.get(uuid, ())
        if params.dry_run:
            yield decision.dry_run_line
        elif healed:
            yield f"Successfully {healed.what} allocations for instance {uuid}."
