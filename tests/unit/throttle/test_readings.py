"""Which reading decides."""

import pytest

from throttle.readings import Answer, Reading, ServerState

GO = Reading("a", Answer.GO, "well")
UNKNOWN = Reading("b", Answer.UNKNOWN, "not to be told")
STOP = Reading("c", Answer.STOP, "the first reason")
STOP_TOO = Reading("d", Answer.STOP, "another reason")
CRITICAL = Reading("e", Answer.CRITICAL, "far too much")


@pytest.mark.parametrize(
    ("readings", "verdict"),
    [
        ([], None),
        ([GO], None),
        ([UNKNOWN, GO], None),
        ([GO, STOP, STOP_TOO], STOP),
        ([STOP, CRITICAL], CRITICAL),
    ],
)
def test_the_first_reason_decides_and_what_is_unknown_never_does(
    readings: list[Reading], verdict: Reading | None
) -> None:
    assert ServerState(0.0, readings).verdict == verdict
