"""What a Redis must allow its user. It is tried without effect: commands are queued in a
transaction that is discarded.

Redis checks the rights for a command, and whether it accepts writes at all, when the command is
queued.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from runs.redis_keys import PREFIX, PROBE

RULE: Final = (
    "~cellkeeper* ~cell.* ~_kombu.* ~unacked* ~*celery* &* +@all -@admin -@dangerous +info"
)
"""What suffices for workers, commands, beat and Flower, as ``ACL SETUSER`` takes it."""

_WRITE: Final = "SET {} value"
_SCRIPT: Final = ["SCRIPT LOAD return", "EVALSHA 0 1 {}"]
_STRING: Final = [
    "DEL {}",
    "EXISTS {}",
    "EXPIRE {} 1",
    "GET {}",
    "INCRBY {} 1",
    "MGET {}",
    _WRITE,
    "TYPE {}",
]
_COUNT: Final = ["HINCRBY {} field 1", "HINCRBYFLOAT {} field 1"]
_HASH: Final = ["HGET {} field", "HGETALL {}", *_COUNT, "HMGET {} field", "HSET {} field value"]
_INDEX: Final = ["ZADD {} 1 member", "ZRANGE {} 0 -1", "ZRANGEBYSCORE {} 0 1", "ZREM {} member"]
_ORDER: Final = [
    "ZCARD {}",
    "ZCOUNT {} 0 1",
    "ZREMRANGEBYSCORE {} 0 1",
    "ZREVRANGE {} 0 -1",
    "ZREVRANGEBYSCORE {} 1 0",
]
_QUEUE: Final = [
    "BRPOP {} 1",
    "DEL {}",
    "EXISTS {}",
    "LLEN {}",
    "LPUSH {} message",
    "PEXPIRE {} 1",
    "TYPE {}",
]
_TABLE: Final = ["SADD {} member", "SMEMBERS {}", "SREM {} member"]
_LOCK: Final = ["GET {}", "SET {} token NX PX 1"]
_UNACKNOWLEDGED: Final = ["HDEL {} tag", "HGET {} tag", "HSET {} tag message", "WATCH {}"]
_CHANNEL: Final = ["PUBLISH {} event", "PSUBSCRIBE {}"]
Needs = Sequence[tuple[str, str, Sequence[str]]]
"""By a pattern of keys or channels, and one of the kind: what is done to it."""
OF_STORE: Final[Needs] = [
    (
        f"~{PREFIX}*",
        PROBE,
        ["PING", "TIME", "INFO", "SCAN 0", *_SCRIPT, *_STRING, *_HASH, *_TABLE, *_INDEX, *_ORDER],
    ),
]
OF_BROKER: Final[Needs] = [
    ("~cell.*", "cell.probe", ["PING", "INFO", *_QUEUE]),
    ("~*celery*", "probe.reply.celery.pidbox", _QUEUE),
    ("~_kombu.*", "_kombu.binding.probe", [*_TABLE, *_INDEX, *_SCRIPT]),
    ("~unacked*", "unacked_probe", [*_UNACKNOWLEDGED, *_INDEX, *_LOCK, *_SCRIPT]),
    ("&*", "/0.celeryev/*", _CHANNEL),
    ("&*", "/0.celery.pidbox", _CHANNEL),
]


def lacking_rights(client: Redis, needs: Needs) -> list[str]:
    """What the client's user must be granted, as ``ACL SETUSER`` takes it.

    :param needs: ``OF_STORE`` or ``OF_BROKER``
    :raises RedisError: Redis does not answer
    """
    patterns, commands = [], []
    for pattern, thing, lines in needs:
        patterns += [pattern] * len(lines)
        commands += [line.format(thing) for line in lines]
    lacking = []
    for pattern, error in zip(patterns, _queue(client, commands), strict=True):
        if isinstance(error, NoPermissionError):
            command = re.search(r"run the '([^']+)' command", str(error))
            lacking.append(f"+{command[1]}" if command else pattern)
    return list(dict.fromkeys(lacking))


def refusal(client: Redis) -> ResponseError | None:
    """Why it takes no writes now: it is full, a replica, or cannot save; None: it takes them.

    :raises RedisError: it does not answer
    """
    return _queue(client, [_WRITE.format(PROBE)])[0]


def _queue(client: Redis, commands: Sequence[str]) -> list[ResponseError | None]:
    """Queue commands; for each, why it is refused."""
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    try:
        connection.send_command("MULTI")
        try:
            connection.read_response()
        except NoPermissionError as error:  # nothing may be sent that would be done at once
            return [error] * len(commands)
        connection.send_packed_command(
            connection.pack_commands([line.split() for line in commands])
        )
        return [_refused(connection) for _ in commands]
    finally:
        connection.disconnect()  # which discards them
        pool.release(connection)


def _refused(connection: Any) -> ResponseError | None:
    try:
        connection.read_response()
    except ResponseError as error:
        return error
    return None
