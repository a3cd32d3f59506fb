"""Which children of a worker are killed for being silent."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import billiard
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from clients import activity
from workers.vitals import ChildWatch, Vitals

LIMIT = 10.0
FORK = get_context("fork")


@pytest.fixture
def vitals() -> Vitals:
    return Vitals()


@contextmanager
def child(vitals: Vitals, work: Callable[[], None]) -> Iterator[Any]:
    """A child of a pool, which does something after each step of the test, and waits for the next
    one.
    """
    ready, steps = FORK.Semaphore(0), FORK.Semaphore(0)

    def live() -> None:
        vitals.take_place()
        with vitals.at_work():
            while True:
                ready.release()
                steps.acquire()
                work()

    process = billiard.get_context("fork").Process(target=live)
    process.index = 3
    process.start()
    ready.acquire()

    def step() -> None:
        steps.release()
        ready.acquire()

    process.step = step
    try:
        yield process
    finally:
        process._popen.kill() if hasattr(process._popen, "kill") else process.terminate()
        process.join()


def ask_a_database() -> None:
    with create_engine("sqlite://", poolclass=NullPool).connect() as connection:
        connection.execute(text("SELECT 1"))


def ask_a_database_in_vain() -> None:
    with (
        create_engine("sqlite://", poolclass=NullPool).connect() as connection,
        pytest.raises(OperationalError),
    ):
        connection.execute(text("SELECT nothing"))


@pytest.mark.parametrize("sign", [ask_a_database, ask_a_database_in_vain, activity.report_answer])
def test_whoever_shows_signs_of_life_is_left_alone(
    vitals: Vitals, sign: Callable[[], None]
) -> None:
    watch = ChildWatch(vitals, LIMIT)
    with child(vitals, sign) as process:
        for _ in range(10):
            watch.look([(process.pid, process.index)], LIMIT - 1)
            process.step()
        assert process.is_alive()


def test_whoever_shows_none_is_killed_when_its_time_is_over(vitals: Vitals) -> None:
    watch = ChildWatch(vitals, LIMIT)
    with child(vitals, lambda: None) as process:
        places = [(process.pid, process.index)]
        watch.look(places, 100.0)  # what was before the first look is not known
        watch.look(places, LIMIT - 1)
        assert process.is_alive()
        watch.look(places, 1.0)
        process.join()
        assert process.exitcode == -signal.SIGKILL


def test_whoever_has_nothing_to_do_need_show_none(vitals: Vitals) -> None:
    watch = ChildWatch(vitals, LIMIT)
    ready, over = FORK.Event(), FORK.Event()

    def live() -> None:
        vitals.take_place()
        with vitals.at_work():
            pass
        ready.set()
        over.wait()

    process = billiard.get_context("fork").Process(target=live)
    process.index = 0
    process.start()
    ready.wait()
    for _ in range(3):
        watch.look([(process.pid, 0)], LIMIT)
    assert process.is_alive()
    over.set()
    process.join()
    assert process.exitcode == 0


def test_what_a_predecessor_left_at_a_place_says_nothing_of_its_successor(vitals: Vitals) -> None:
    watch = ChildWatch(vitals, LIMIT)
    with child(vitals, lambda: None) as process:
        successor = process.pid + 1
        for _ in range(3):
            watch.look([(successor, process.index)], LIMIT)
        assert process.is_alive()
