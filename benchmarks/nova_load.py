"""A load of Nova's own statements at a fixed rate, and how long each took; a process of its own:
see ``neighbour``.

A request counts from the moment at which it was due, not from when a connection was free for it: a
server that stands still for a second makes all requests of that second slow, not only those that it
was given (coordinated omission).
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Final

import pymysql

from benchmarks.data import Cursor, Link
from novadb.error_numbers import CONTENDED
from tests.support.services import HOST, MariaDB

RATE: Final = 100
"""Requests each second."""
CONNECTIONS: Final = 24
"""More than are in use while the server answers within a tenth of a second: a slow request holds up
no other.
"""
SERVICES: Final = 20
STRIDE: Final = 7919
"""A prime, so that consecutive requests are for instances that lie apart."""
READY: Final = "ready"

# What Nova asks for to show an instance; it has the columns by name, which makes no difference to
# the server.
INSTANCE: Final = """
    SELECT i.*, e.flavor, e.numa_topology, e.pci_requests, e.keypairs, c.network_info
    FROM instances i
    LEFT JOIN instance_extra e ON e.instance_uuid = i.uuid
    LEFT JOIN instance_info_caches c ON c.instance_uuid = i.uuid
    WHERE i.deleted = 0 AND i.uuid = %s LIMIT 1
"""
OF_INSTANCE: Final = (
    "SELECT * FROM block_device_mapping WHERE deleted = 0 AND instance_uuid = %s",
    "SELECT * FROM instance_system_metadata WHERE deleted = 0 AND instance_uuid = %s",
    "SELECT * FROM instance_metadata WHERE deleted = 0 AND instance_uuid = %s",
)
UPDATE: Final = (
    "UPDATE instances SET updated_at = NOW(), task_state = %s WHERE id = %s AND deleted = 0"
)
UPDATE_EXTRA: Final = (
    "UPDATE instance_extra SET updated_at = NOW() WHERE deleted = 0 AND instance_uuid = %s"
)
ACTION: Final = """
    INSERT INTO instance_actions
    (created_at, action, instance_uuid, request_id, user_id, project_id, start_time, deleted)
    VALUES (NOW(), 'reboot', %s, 'req-benchmark', 'user', 'project', NOW(), 0)
"""
EVENT: Final = """
    INSERT INTO instance_actions_events (created_at, event, action_id, start_time, deleted, host)
    VALUES (NOW(), 'compute_reboot_instance', %s, NOW(), 0, 'cmp-001')
"""
SIGN_OF_LIFE: Final = (
    "UPDATE services SET updated_at = NOW(), last_seen_up = NOW(), report_count "
    "= report_count + 1 WHERE id = %s"
)


class LoadFailed(Exception):
    """The load was not sent: what was measured beside it says nothing."""


@dataclass(frozen=True)
class Load:
    """What is asked of which server.

    :ivar port: of the server
    :ivar instances: their ids and uuids
    """

    port: int
    cell: str
    instances: Sequence[tuple[int, str]]


def make_services(link: Link) -> None:
    """Make the services that show signs of life."""
    columns = "(id, host, `binary`, topic, report_count, disabled, deleted, uuid)"
    rows = (
        "SELECT seq, CONCAT('cmp-', seq), 'nova-compute', 'compute', 0, 0, 0, UUID() FROM "
        f"seq_1_to_{SERVICES}"
    )
    with link.cursor() as cursor:
        cursor.execute(f"INSERT IGNORE INTO services {columns} {rows}")


def live_instances(link: Link) -> list[tuple[int, str]]:
    """The ids and uuids of the instances that are not deleted."""
    with link.cursor() as cursor:
        cursor.execute("SELECT id, uuid FROM instances WHERE deleted = 0 ORDER BY id")
        return list(cursor.fetchall())


# -- in the process of the load --------------------------------------------------------------------


def read_instance(cursor: Cursor, instance: tuple[int, str], _number: int) -> None:
    _, uuid = instance
    for statement in (INSTANCE, *OF_INSTANCE):
        cursor.execute(statement, (uuid,))
        cursor.fetchall()


def update_instance(cursor: Cursor, instance: tuple[int, str], number: int) -> None:
    own_id, uuid = instance
    cursor.execute(UPDATE, ("rebooting" if number % 2 else None, own_id))
    cursor.execute(UPDATE_EXTRA, (uuid,))


def insert_action(cursor: Cursor, instance: tuple[int, str], _number: int) -> None:
    _, uuid = instance
    cursor.execute(ACTION, (uuid,))
    cursor.execute(EVENT, (cursor.lastrowid,))


def show_sign_of_life(cursor: Cursor, _instance: tuple[int, str], number: int) -> None:
    cursor.execute(SIGN_OF_LIFE, (1 + number % SERVICES,))


Request = Callable[[Cursor, tuple[int, str], int], None]
REQUESTS: Final[tuple[Request, ...]] = (
    read_instance,
    update_instance,
    read_instance,
    insert_action,
    read_instance,
    update_instance,
    read_instance,
    insert_action,
    read_instance,
    show_sign_of_life,
)
"""In turn, each a transaction."""


class Requests:
    """Hands out the requests as they fall due, and keeps how long each took."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self._begin = time.monotonic()
        self._next = 0
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def take(self) -> tuple[int, float] | None:
        """The next request's number, and when it is due by ``time.monotonic``; None: there are no
        more.
        """
        with self._lock:
            if self._is_over.is_set():
                return None
            number = self._next
            self._next += 1
        due = self._begin + number / RATE
        if self._is_over.wait(max(due - time.monotonic(), 0.0)):
            return None
        return number, due

    def answered(self, due: float) -> None:
        """Note how long a request took, in seconds from when it was due."""
        self.latencies.append(time.monotonic() - due)

    def end(self) -> None:
        """Let no new request begin."""
        self._is_over.set()


def send(load: Load, link: Link, requests: Requests) -> None:
    """Send requests over one connection until there are no more."""
    with link.cursor() as cursor:
        while taken := requests.take():
            number, due = taken
            instance = load.instances[number * STRIDE % len(load.instances)]
            send_until_committed(link, cursor, REQUESTS[number % len(REQUESTS)], instance, number)
            requests.answered(due)


def send_until_committed(
    link: Link, cursor: Cursor, request: Request, instance: tuple[int, str], number: int
) -> None:
    """Send a request; again after a deadlock, as Nova does."""
    while True:
        try:
            request(cursor, instance, number)
            link.commit()
        except pymysql.OperationalError as error:
            if error.args[0] not in CONTENDED:
                raise
            link.rollback()
        else:
            return


def main() -> None:
    """Send the load that the first line of standard input describes, until that ends; print the
    latencies.
    """
    # Not by way of sys.stdin, which may have read on what select waits for.
    with os.fdopen(0, "rb", buffering=0) as instructions:
        load = Load(**json.loads(instructions.readline()))
        with ExitStack() as stack:
            links = [
                stack.enter_context(connect_to(load.port, load.cell)) for _ in range(CONNECTIONS)
            ]
            requests = Requests()
            pool = stack.enter_context(ThreadPoolExecutor(CONNECTIONS))
            senders = [pool.submit(send, load, link, requests) for link in links]
            print(READY, flush=True)
            select.select([instructions], [], [])
            requests.end()
            for sender in senders:
                sender.result()
    print(json.dumps(requests.latencies))


def connect_to(port: int, database: str) -> "closing[Link]":
    """A connection without autocommit, which the context closes."""
    user, password = MariaDB.USER, MariaDB.PASSWORD
    return closing(
        pymysql.connect(
            host=HOST, port=port, user=user, password=password, database=database, ssl_disabled=True
        )
    )


# -- in the process that measures ------------------------------------------------------------------


@contextmanager
def sent(load: Load) -> Iterator[list[float]]:
    """The context in which another process sends a load.

    :returns: a list that at the end has the latency of each request, in seconds
    :raises LoadFailed: it could not be sent
    """
    latencies: list[float] = []
    command = [sys.executable, "-m", "benchmarks.nova_load"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(asdict(load)) + "\n")
        process.stdin.flush()
        if process.stdout.readline().strip() != READY:
            raise LoadFailed("the load did not begin")
        try:
            yield latencies
        finally:
            process.stdin.close()
            answer = process.stdout.read()
    if process.returncode:
        raise LoadFailed("the load was not sent to its end")
    latencies += json.loads(answer)


if __name__ == "__main__":
    main()
