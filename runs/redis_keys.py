"""Where things lie in Redis: the names of keys, and of cells as members of indexes."""

from typing import Final

from runs.store import CellKey

PREFIX: Final = "cellkeeper"

Field = tuple[str, str]
"""Where a record lies: a key and a field of its hash."""


def key_of(*parts: object) -> str:
    return ":".join([PREFIX, *map(str, parts)])


QUEUE: Final = (key_of("queue"), "record")
HOLD: Final = (key_of("hold"), "record")
RUNS: Final = key_of("runs")
TALLY: Final = key_of("tally")
HISTORY: Final = key_of("history")
PROBE: Final = key_of("probe")
"""With which is tried whether Redis takes writes, without one."""
WORKERS: Final = key_of("workers")
LINES_OF: Final = key_of("lines")
"""The servers for which cells wait."""
RUN_KEYS: Final = key_of("run:")
"""With what the keys of single runs begin."""


def run_key(run: str) -> str:
    return key_of("run", run)


def worker_key(worker: str) -> str:
    return key_of("worker", worker)


def server_key(server: str) -> str:
    """The connections that cells have to a server, by the end of the lease."""
    return key_of("server", server)


def line_key(server: str) -> str:
    """The cells that wait for a connection to a server, by the time since when."""
    return key_of("line", server)


def look_key(server: str, *part: str) -> str:
    """What was seen of a server when it was looked at last."""
    return key_of("look", server, *part)


def encode_cell_key(run: str, phase: int, number: int) -> str:
    return f"{run} {phase} {number}"


def decode_cell_key(text: str) -> CellKey:
    run, phase, number = text.rsplit(" ", 2)
    return run, int(phase), int(number)


def phase_key(run: str, phase: int, *index: str) -> str:
    """The cells of a phase by number; or an index of them.

    ``look`` has those that are not done by the time to look at them, ``leases`` those that are
    claimed by the end of the lease, ``changed`` all by the change that they were last part of. What
    was handled lately stands beside them, in keys that expire by themselves.
    """
    return key_of("run", run, phase, *index)


def phase_keys(run: str, phase: int) -> list[str]:
    return [
        phase_key(run, phase),
        *(phase_key(run, phase, index) for index in ("look", "leases", "changed")),
    ]
