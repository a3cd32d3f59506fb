"""Healing that goes on in another slice."""

import pytest

from clients.errors import ServiceMisconfigured, ServiceUnavailable
from jobs.action import Target
from jobs.placement.heal_allocations import Params, work
from novadb.cells import Cell
from novadb.engine import Database
from settings.databases import Timeouts


def test_a_slice_behind_one_that_lost_placement_says_so() -> None:
    target = Target(Cell.unmapped(Database("sqlite:////nowhere", "cell1", Timeouts())), None)
    for kind, is_misconfigured in ((ServiceUnavailable, False), (ServiceMisconfigured, True)):
        away = ["placement", "Placement: no connection", is_misconfigured]
        steps = work(target, Params(), {"after": 7, "healed": 3, "away": away})
        with pytest.raises(kind, match="Placement: no connection") as raised:
            next(steps)
        assert raised.value.service == "placement"
