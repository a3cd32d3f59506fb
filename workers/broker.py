"""What carries the bells: a Redis or a RabbitMQ, as Celery is told of it."""

import ssl
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from amqp.exceptions import AMQPError
from celery import Celery
from kombu.exceptions import OperationalError
from oslo_config import cfg

from runs.store import BrokerAway
from settings.brokers import broker_address
from workers.redis_client import ANSWER, SENTINEL_OPTIONS, check_redis, redis_client
from workers.redis_needs import OF_BROKER
from workers.redis_transport import use_patient_transports

REDIS_OPTIONS: Final = {
    "visibility_timeout": 300,
    "socket_timeout": ANSWER,
    "socket_connect_timeout": ANSWER,
    "socket_keepalive": True,
    # A wait for messages that is not answered is given up after twice that, and 1 s.
    "health_check_interval": ANSWER,
    # By default each queue is four, all of which are named whenever a message is waited for.
    "priority_steps": [0],
}
AMQP_OPTIONS: Final = {"confirm_publish": True}
CONNECT: Final = 5.0  # seconds
# A refused login, vhost or queue is none of kombu's operational errors.
BROKER_ERRORS: Final = (OperationalError, AMQPError, OSError)


def configure_broker(app: Celery, conf: cfg.ConfigOpts) -> None:
    """Tell Celery of the broker."""
    address = broker_address(conf)
    if address is None:
        url, tls = _amqp(conf.celery.broker_url)
        app.conf.update(broker_url=url, broker_use_ssl=tls, broker_transport_options=AMQP_OPTIONS)
        return
    options: dict[str, Any] = dict(REDIS_OPTIONS)
    if address.sentinels:
        options |= {"master_name": address.master, "sentinel_kwargs": SENTINEL_OPTIONS}
    use_patient_transports()
    app.conf.update(broker_url=address.celery_url, broker_transport_options=options)


def _amqp(url: str) -> tuple[str, dict[str, Any] | bool]:
    """The URL without what it says of TLS, and that for Celery: with ``amqps`` certificates are
    checked.
    """
    places = url.split(";")
    words = {name: values[-1] for name, values in parse_qs(urlsplit(places[0]).query).items()}
    plain = ";".join(place.partition("?")[0] for place in places)
    if urlsplit(url).scheme != "amqps":
        return plain, False
    is_unchecked = words.get("ssl_cert_reqs", "").lower().removeprefix("cert_") == "none"
    names = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}
    files = {option: words[word] for word, option in names.items() if word in words}
    return plain, files | {"cert_reqs": ssl.CERT_NONE if is_unchecked else ssl.CERT_REQUIRED}


def check_broker(app: Celery, conf: cfg.ConfigOpts) -> None:
    """See at once whether the broker can be used.

    :raises RedisError: it is a Redis, and cannot
    :raises BrokerAway: it is a RabbitMQ, and cannot
    :raises NotConfigured: it is a Redis Cluster, or allows its user too little
    """
    address = broker_address(conf)
    if address:
        check_redis(redis_client(address, 0), OF_BROKER)
        return
    place = ", ".join(
        urlsplit(part).netloc.rpartition("@")[2] for part in conf.celery.broker_url.split(";")
    )
    try:
        with app.connection_for_write(connect_timeout=CONNECT) as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT)
    except BROKER_ERRORS as error:
        raise BrokerAway(f"The broker at {place} cannot be used: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """An error of the transport in its own words, which hold no login."""
    return str(error).strip() or type(error).__name__
