"""The URLs of the section [celery]: what each spelling means, to redis-py and to Celery."""

import ssl
from typing import Any

import pytest
from celery import Celery

from settings.brokers import (
    BrokerUrl,
    RedisAddress,
    broker_address,
    is_amqp,
    redis_address,
    store_address,
)
from settings.errors import NotConfigured
from settings.files import load_configuration
from workers.broker import configure_broker

REQUIRED = (("ssl_cert_reqs", "required"),)
UNDERSTOOD: dict[str, RedisAddress] = {
    "redis://h": RedisAddress("h"),
    "redis://h:1/2": RedisAddress("h", 1, database=2),
    "redis://h/?db=3": RedisAddress("h", database=3),
    "redis://:p%2Fw%40@h": RedisAddress("h", password="p/w@"),
    "redis://u:p@[::1]:1": RedisAddress("::1", 1, "u", "p"),
    "rediss://h": RedisAddress("h", tls=True),
    "rediss://h?ssl_cert_reqs=CERT_REQUIRED": RedisAddress("h", tls=True, ssl_options=REQUIRED),
    "rediss://h?ssl_cert_reqs=required": RedisAddress("h", tls=True, ssl_options=REQUIRED),
    "rediss://h?ssl_cert_reqs=CERT_NONE": RedisAddress(
        "h", tls=True, ssl_options=(("ssl_cert_reqs", "none"),)
    ),
    "rediss://h?ssl_cert_reqs=CERT_OPTIONAL&ssl_ca_certs=/ca": RedisAddress(
        "h", tls=True, ssl_options=(("ssl_cert_reqs", "optional"), ("ssl_ca_certs", "/ca"))
    ),
    "sentinel://:p@a/1": RedisAddress(
        "a", password="p", database=1, sentinels=(("a", 26379),), master="ours"
    ),
    "sentinel://:p@a:1/1;sentinel://:p@[fd00::2]:2/1": RedisAddress(
        "a", 1, password="p", database=1, sentinels=(("a", 1), ("fd00::2", 2)), master="ours"
    ),
    "redis://default:p@a:26379?sentinel=theirs": RedisAddress(
        "a", 26379, "default", "p", sentinels=(("a", 26379),), master="theirs"
    ),
    "redis://:p@a?sentinel=theirs&sentinel_fallback=b:1&sentinel_fallback=[::1]&db=4"
    "&socket_timeout=3": RedisAddress(
        "a",
        password="p",
        database=4,
        sentinels=(("a", 26379), ("b", 1), ("::1", 26379)),
        master="theirs",
    ),
}


@pytest.mark.parametrize("url", UNDERSTOOD)
def test_what_a_url_of_a_redis_means(url: str) -> None:
    assert redis_address(url, "ours") == UNDERSTOOD[url]
    assert BrokerUrl()(url) == url


@pytest.mark.parametrize(
    ("url", "for_redis", "for_celery"),
    [
        ("redis://u:p%2Fw@h:1/2", "redis://u:p%2Fw@h:1/2", "redis://u:p%2Fw@h:1/2"),
        ("redis://[::1]", "redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("rediss://h/1", "rediss://h:6379/1", "rediss://h:6379/1?ssl_cert_reqs=required"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", *["rediss://h:6379/0?ssl_cert_reqs=none"] * 2),
    ],
)
def test_how_the_same_redis_is_told_to_each(url: str, for_redis: str, for_celery: str) -> None:
    address = redis_address(url, "")
    assert (address.url, address.celery_url) == (for_redis, for_celery)


def test_celery_is_told_of_each_sentinel_with_the_login_of_the_redis() -> None:
    address = redis_address("redis://u:p%40@a:1?sentinel=m&sentinel_fallback=b", "")
    assert address.celery_url == "sentinel://u:p%40@a:1/0;sentinel://u:p%40@b:26379/0"


CHECKED: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED}
RABBITS = {
    "amqp://u:p@h:5672/v": ("amqp://u:p@h:5672/v", False),
    "pyamqp://u:p@h//": ("pyamqp://u:p@h//", False),
    "amqps://u:p@h/v": ("amqps://u:p@h/v", CHECKED),
    "amqps://u:p@h/v?ssl_ca_certs=/ca": ("amqps://u:p@h/v", CHECKED | {"ca_certs": "/ca"}),
    "amqps://h/v?ssl_cert_reqs=CERT_NONE": ("amqps://h/v", {"cert_reqs": ssl.CERT_NONE}),
    "amqps://h/v?ssl_cert_reqs=none": ("amqps://h/v", {"cert_reqs": ssl.CERT_NONE}),
    "amqps://h/v?ssl_cert_reqs=CERT_REQUIRED": ("amqps://h/v", CHECKED),
    "amqps://a/v?ssl_certfile=/c&ssl_keyfile=/k;amqps://b/v": (
        "amqps://a/v;amqps://b/v",
        CHECKED | {"certfile": "/c", "keyfile": "/k"},
    ),
}


@pytest.mark.parametrize("url", RABBITS)
def test_what_celery_is_told_of_a_rabbitmq(url: str) -> None:
    conf = load_configuration([])
    conf.set_override("broker_url", url, "celery")
    with Celery() as app:
        configure_broker(app, conf)
        assert (app.conf.broker_url, app.conf.broker_use_ssl) == RABBITS[url]
    assert is_amqp(url)
    assert broker_address(conf) is None
    with pytest.raises(NotConfigured, match="set store_url in section"):
        store_address(conf)
    conf.set_override("store_url", "redis://h", "celery")
    assert store_address(conf) == RedisAddress("h")


@pytest.mark.parametrize(
    "url",
    ["amqp://", "amqp://:secret@/v", "amqp://u:secret@h:port/", "amqp://u:secret@h:0/", "rabbit://u:secret@h/",
     "amqp://u:secret@a/;redis://b", "redis://:secret@h:0", "redis://:secret@?sentinel=m", "sentinel://",
     "redis://:secret@h/-1", "redis+socket:///secret", "kafka://:secret@h"],
)  # fmt: skip
def test_what_carries_no_messages_is_refused_without_being_repeated(url: str) -> None:
    assert not is_amqp(url)
    with pytest.raises(ValueError, match="it must be redis://") as refused:
        BrokerUrl()(url)
    assert "secret" not in str(refused.value)


def test_the_runs_are_kept_where_the_messages_go_unless_said_otherwise() -> None:
    conf = load_configuration([])
    conf.set_override("broker_url", "redis://a", "celery")
    assert store_address(conf) == broker_address(conf) == RedisAddress("a")
    conf.set_override("store_url", "redis://b", "celery")
    assert store_address(conf) == RedisAddress("b")
    assert broker_address(conf) == RedisAddress("a")
