"""Celery's transports over Redis, for which a Redis that refuses is one that is away: they connect again and wait.

As kombu has them, a worker ends with a traceback when its Redis becomes a replica, is full, or cannot save. Tried with
kombu 5.7; a test makes a Redis refuse in each of these ways.
"""

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ResponseError


class PatientTransport(redis.Transport):
    """``redis://`` and ``rediss://``."""

    connection_errors = (*redis.Transport.connection_errors, ResponseError)


class PatientSentinelTransport(redis.SentinelTransport):
    """``sentinel://``."""

    connection_errors = (*redis.SentinelTransport.connection_errors, ResponseError)


def use_patient_transports() -> None:
    """Let the schemes of Redis mean these transports, in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{PatientTransport.__name__}"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{PatientSentinelTransport.__name__}"
