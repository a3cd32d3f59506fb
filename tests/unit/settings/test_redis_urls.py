"""Which URLs are a Redis, and what is said where Sentinels do not answer."""

import pytest
from redis.sentinel import MasterNotFoundError

from settings.brokers import RedisUrl
from settings.files import load_configuration
from workers.redis_client import check_store

SENTINELS = "sentinel://:redis-secret@127.0.0.1:1/2;sentinel://:redis-secret@127.0.0.1:2/2"


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://:p%2Fw;d@redis.example",
        "rediss://cellkeeper:secret@[::1]:6380/1?ssl_cert_reqs=required",
        "sentinel://:secret@one:26379/0",
        SENTINELS,
        "sentinel://:secret@[::1]:26379/0;sentinel://:secret@[fd00::2]:26379/0",
        "",
    ],
)
def test_what_is_a_redis(url: str) -> None:
    assert RedisUrl()(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "rabbit://nova:secret@mq:5672/",
        "amqp://nova:secret@mq:5672/",
        "redis:/secret",
        "redis.example:6379",
        "redis://:se/cret@redis.example:6379/0",
        "redis://:secret@redis.example:port/0",
        "redis://:secret@[::1:6379/0",
        "redis://:secret@[redis.example]x:6379/0",
        "redis://:secret@redis.example:6379/first",
        "sentinel://:secret@one:26379/0;redis.example:6379",
    ],
)
def test_what_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="it must be redis://") as refused:
        RedisUrl()(url)
    assert "secret" not in str(refused.value)
    assert "se/cret" not in str(refused.value)


def test_sentinels_that_do_not_answer_are_one_line() -> None:
    conf = load_configuration([])
    conf.set_override("broker_url", SENTINELS, "celery")
    with pytest.raises(MasterNotFoundError) as error:
        check_store(conf)
    assert (
        str(error.value)
        == "no Sentinel of 127.0.0.1:1, 127.0.0.1:2 knows a master 'mymaster', or none answers"
    )
