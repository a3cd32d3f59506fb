"""The signals of a Galera node: its state, the time in flow control, the write sets it has still to
apply.
"""

from collections.abc import Iterator
from typing import Final

from settings.throttle import ThrottleSettings
from throttle.look import Look, compare
from throttle.readings import Answer, Reading

NODE: Final = "galera_node"
FLOW_CONTROL: Final = "flow_control"
RECEIVE_QUEUE: Final = "receive_queue"
GROUP: Final = "galera"
"""What the three together are called."""
SYNCED: Final = "4"
"""``wsrep_local_state`` of a node in step with the cluster."""
NANOSECONDS: Final = 1e9


def is_on(settings: ThrottleSettings) -> bool:
    """Whether one of the two numbers has a limit; the state of the node is read along with them."""
    return bool(settings.max_flow_control or settings.max_receive_queue)


def read(look: Look) -> Iterator[Reading]:
    """The readings of a Galera node; none where the server is not one.

    :source: Galera's documentation: wsrep_flow_control_paused_ns counts on every node of a cluster
        that is paused
    """
    status = look.status
    if status.get("wsrep_connected") != "ON":
        return
    yield _node_state(status)
    if look.settings.max_flow_control:
        paused = look.growth(
            "flow_control_paused_ns", float(status["wsrep_flow_control_paused_ns"])
        )
        if paused is not None:
            percent = 100 * paused / NANOSECONDS
            words = f"{percent:.1f} % of the time in flow control"
            yield compare(FLOW_CONTROL, percent, look.settings.max_flow_control, words)
    if look.settings.max_receive_queue:
        waiting = int(status["wsrep_local_recv_queue"])
        words = f"{waiting} write sets in the receive queue"
        yield compare(RECEIVE_QUEUE, waiting, look.settings.max_receive_queue, words)


def _node_state(status: dict[str, str]) -> Reading:
    state = status.get("wsrep_local_state_comment", "")
    answer = Answer.GO if status.get("wsrep_local_state") == SYNCED else Answer.STOP
    return Reading(NODE, answer, f"the Galera node is {state}")
