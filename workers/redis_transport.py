"""Celery's transports over Redis, which bear what kombu's do not.

A Redis that refuses is one that is away: they connect again and wait. What is no message, and a key
of another type, cost themselves and one line. As kombu has it, a worker ends of each with a
traceback, or connects again for ever. These classes override private methods of kombu's
(``_brpop_read``, ``_deliver``, ``_queue_bind``) and read its ``_avail_channels``: tried with kombu
5.7, to be tried again with each newer one.
"""

import logging
from queue import Empty
from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import RedisError, ResponseError

from runs.redis_keys import PROBE
from workers.calm import UNREAD

LOG = logging.getLogger("cellkeeper.worker")

# What is raised by what is none: by its decoding, and by Celery when it looks for what a message
# has.
GARBAGE: Final = (AttributeError, LookupError, TypeError, ValueError)


class PatientQoS(redis.QoS):
    """Messages that were taken and not acknowledged."""

    def ack(self, delivery_tag: Any) -> None:
        """Acknowledge a message. One that cannot be counts as one here, or no other would be taken
        any more.

        It comes again after the visibility timeout, which does no harm.
        """
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except RedisError:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put a message back; one that cannot be read is forgotten."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except GARBAGE:
            LOG.warning(UNREAD)
            with self.pipe_or_acquire(client=client) as pipe:
                self._remove_from_indices(tag, pipe).execute()  # type: ignore[no-untyped-call]


class _PatientChannel:
    """What the channels have in common."""

    QoS = PatientQoS

    def basic_consume(self, queue: str, *arguments: Any, **named: Any) -> Any:
        """Consume from a queue, once its lists are none of another type."""
        for priority in self.priority_steps:  # type: ignore[attr-defined]
            self._make_room(self._q_for_pri(queue, priority), "list")  # type: ignore[attr-defined]
        return super().basic_consume(queue, *arguments, **named)  # type: ignore[misc]

    def _queue_bind(self, exchange: str, *arguments: Any) -> None:
        """Let an exchange know a queue, once its table is none of another type."""
        for key in (self.keyprefix_queue, self.keyprefix_binding_permanent):  # type: ignore[attr-defined]
            self._make_room(key % exchange, "set")
        super()._queue_bind(exchange, *arguments)  # type: ignore[misc]

    def make_room(self) -> None:
        """See that Redis takes writes, and remove what stands where messages that were taken are
        kept.

        :raises ResponseError: it takes none
        """
        with self.conn_or_acquire() as client:  # type: ignore[attr-defined]
            client.set(PROBE, "", xx=True)  # it is not there, so nothing is written
        self._make_room(self.unacked_key, "hash")  # type: ignore[attr-defined]
        for key in (self.unacked_index_key, self.keyprefix_binding_deadlines):  # type: ignore[attr-defined]
            self._make_room(key, "zset")

    def _make_room(self, key: str, kind: str) -> None:
        with self.conn_or_acquire() as client:  # type: ignore[attr-defined]
            there = bytes_to_str(client.type(key))  # type: ignore[no-untyped-call]
            if there not in (kind, "none"):
                LOG.warning(
                    "%s is a %s in Redis, where Celery has a %s: it is removed", key, there, kind
                )
                client.delete(key)

    def _brpop_read(self, **options: Any) -> Any:
        """Read what came from a queue."""
        transport = self.connection  # type: ignore[attr-defined]
        transport.is_delivering = False
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except ValueError:
            if transport.is_delivering:
                raise
            LOG.warning(UNREAD)
            raise Empty from None


class PatientChannel(_PatientChannel, redis.Channel):
    """A channel to a Redis."""


class PatientSentinelChannel(_PatientChannel, redis.SentinelChannel):
    """A channel to a Redis that Sentinels know."""


class _PatientTransport:
    """What the transports have in common.

    :ivar is_delivering: whether what was read last was some JSON
    """

    is_delivering = False

    def establish_connection(self) -> Any:
        """Connect to a Redis that takes writes: one that does not is asked again in growing
        intervals.
        """
        connection = super().establish_connection()  # type: ignore[misc]
        try:
            (channel,) = connection._avail_channels
            channel.make_room()
        except Exception:
            self.close_connection(connection)  # type: ignore[attr-defined]
            raise
        return connection

    def _deliver(self, message: Any, queue: str) -> None:
        """Hand a message on, if it is one."""
        self.is_delivering = True
        try:
            super()._deliver(message, queue)  # type: ignore[misc]
        except GARBAGE as error:
            LOG.debug("%s", UNREAD, exc_info=error)
            LOG.warning(UNREAD)
            self._forget(message)

    def _forget(self, message: Any) -> None:
        """Acknowledge a message as far as it is one: it shall not come again."""
        try:
            tag = message["properties"]["delivery_tag"]
            self.channels[0].basic_ack(tag)  # type: ignore[attr-defined]
        except GARBAGE:
            return


class PatientTransport(_PatientTransport, redis.Transport):
    """``redis://`` and ``rediss://``."""

    Channel = PatientChannel
    connection_errors = (*redis.Transport.connection_errors, ResponseError)


class PatientSentinelTransport(_PatientTransport, redis.SentinelTransport):
    """``sentinel://``."""

    Channel = PatientSentinelChannel
    connection_errors = (*redis.SentinelTransport.connection_errors, ResponseError)


def use_patient_transports() -> None:
    """Let the schemes of Redis mean these transports, in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{PatientTransport.__name__}"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{PatientSentinelTransport.__name__}"
