"""What has paused the work lets it go on only when it has clearly calmed down."""

import pytest

from throttle.hysteresis import settle
from throttle.look import compare
from throttle.readings import Answer, Reading

LIMIT = 50.0
STATE_GO = Reading("galera_node", Answer.GO, "the Galera node is Synced")
STATE_STOP = Reading("galera_node", Answer.STOP, "the Galera node is Donor/Desynced")
UNKNOWN = Reading("threads_running", Answer.UNKNOWN, "no answer")


def threads(number: float) -> Reading:
    return compare("threads_running", number, LIMIT, f"{number:g} threads running")


@pytest.mark.parametrize(
    ("looks", "answers"),
    [
        ([threads(10), threads(49), threads(50), threads(60)], "go go stop stop"),
        ([threads(60), threads(45), threads(45), threads(45)], "stop stop stop stop"),
        ([threads(60), threads(39), threads(39), threads(49)], "stop stop go go"),
        (
            [threads(60), threads(39), threads(45), threads(39), threads(39)],
            "stop stop stop stop go",
        ),
        ([threads(60), UNKNOWN, threads(39), threads(39)], "stop unknown go go"),
        ([STATE_STOP, STATE_GO, STATE_GO], "stop stop go"),
        ([STATE_GO, STATE_STOP, STATE_GO, STATE_STOP], "go stop stop stop"),
    ],
)
def test_the_work_goes_on_after_two_calm_looks_in_a_row(looks: list[Reading], answers: str) -> None:
    calm_looks: dict[str, int] = {}
    settled_answers = []
    for reading in looks:
        (settled,), calm_looks = settle([reading], calm_looks)
        settled_answers.append(settled.answer.value)
    assert settled_answers == answers.split()


def test_a_signal_that_waits_to_stay_low_says_so() -> None:
    _, calm_looks = settle([threads(60)], {})
    (settled,), _ = settle([threads(10)], calm_looks)
    assert settled.words == "10 threads running; waiting for it to stay low"


def test_each_replica_calms_down_by_itself() -> None:
    late = compare("replica_lag", 5, 1, "5 s behind", "db2:3306")
    prompt = compare("replica_lag", 0, 1, "0 s behind", "db3:3306")
    _, calm_looks = settle([late, prompt], {})
    settled, _ = settle([late, prompt], calm_looks)
    assert [reading.answer for reading in settled] == [Answer.STOP, Answer.GO]
