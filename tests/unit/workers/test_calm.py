"""What is left of what Celery logs while the broker is away."""

import logging

import pytest
from celery.worker.consumer import consumer
from redis.exceptions import ReadOnlyError

from workers.calm import AWAY, UNREAD, Calm, be_calm


def record(message: str, *args: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("celery", logging.WARNING, "", 0, message, args, info)


LOST = record("%s (%r)", consumer.CONNECTION_RETRY, ConnectionError("gone"))
STILL = record(consumer.CONNECTION_ERROR, "redis://", "refused", "Trying again")
REFUSED = record("Couldn't ack %r, reason:%r", "id", "why", error=ReadOnlyError("a replica\nnow"))
BACK = record("Connected to %s", "redis://")


@pytest.mark.parametrize("first", [LOST, STILL, REFUSED])
def test_an_outage_is_one_line_and_one_more_when_it_is_over(first: logging.LogRecord) -> None:
    calm = Calm()
    records = [
        logging.makeLogRecord(vars(one)) for one in (first, STILL, LOST, REFUSED, BACK, STILL)
    ]
    told = [one.getMessage() for one in records if calm.filter(one)]
    away = AWAY.partition("%")[0]
    assert [line.startswith(away) for line in told] == [True, False, True]
    assert told[1] == "Connected to redis://"


def test_an_error_of_redis_is_told_in_one_line_without_its_traceback() -> None:
    refused = logging.makeLogRecord(vars(REFUSED))
    assert Calm().filter(refused)
    assert refused.exc_info is None
    assert refused.getMessage() == AWAY % "a replica now"


def test_what_fails_while_a_refusal_of_redis_is_handled_belongs_to_it() -> None:
    failed = AttributeError("'NoneType' object has no attribute 'close'")
    failed.__context__ = ReadOnlyError("a replica")
    logger = logging.getLogger("celery.bootsteps")
    before = list(logger.filters)
    be_calm()
    added = [one for one in logger.filters if one not in before]
    try:
        stopping = record("Error on %s %s: %r", "close", "Consumer", failed, error=failed)
        assert logger.filter(stopping)
        assert stopping.exc_info is None
        assert stopping.getMessage() == AWAY % "a replica"
    finally:
        logger.filters = before
    assert added


def test_what_cannot_be_read_is_told_without_what_it_holds() -> None:
    unread = record(consumer.UNKNOWN_FORMAT, "the secret", error=ValueError("the secret"))
    assert Calm().filter(unread)
    assert (unread.getMessage(), unread.exc_info) == (UNREAD, None)


def test_all_else_stays_as_it_is() -> None:
    calm = Calm()
    calm.filter(logging.makeLogRecord(vars(LOST)))
    other = record("something %s", "else", error=ValueError("wrong"))
    assert calm.filter(other)
    assert other.getMessage() == "something else"
    assert other.exc_info
