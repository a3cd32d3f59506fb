"""A RabbitMQ that refuses its user: one line names it, and no password stands there."""

import json
from urllib.parse import urlsplit

import pytest

from tests.support.command import Ended
from tests.workers.fleet import OTHER_BROKER, Site

pytestmark = pytest.mark.skipif(not OTHER_BROKER, reason="needs a RabbitMQ: make test-rabbitmq")

REFUSED = {
    "a wrong password": ("amqp://guest:wrong-secret@{place}//", "ACCESS_REFUSED"),
    "a vhost that is not there": ("amqp://guest:guest@{place}/missing", "vhost missing not found"),
}


def call_with_broker(site: Site, line: str, url: str) -> Ended:
    """Run a command whose ``broker_url`` is another one than that of the tests."""
    place = urlsplit(OTHER_BROKER).netloc.rpartition("@")[2]
    return site.start(line, env={"OS_CELERY__BROKER_URL": url.format(place=place)}).end()


@pytest.mark.parametrize(("url", "words"), REFUSED.values(), ids=REFUSED)
def test_a_command_names_the_broker_that_refuses_it(site: Site, url: str, words: str) -> None:
    ended = call_with_broker(site, "db archive_deleted_rows --all-cells --detach", url)
    assert (ended.code, ended.out) == (255, "")
    assert ended.line.startswith("The broker at ")
    assert words in ended.line
    assert "secret" not in ended.line


@pytest.mark.parametrize(("url", "words"), REFUSED.values(), ids=REFUSED)
def test_check_names_the_broker_that_refuses_it(site: Site, url: str, words: str) -> None:
    ended = call_with_broker(site, "check -f json", url)
    assert ended.code == 1
    findings = json.loads(ended.out)["findings"]
    (answer,) = [finding for finding in findings if finding["where"] == "broker"]
    assert answer["verdict"] == "failed"
    assert words in answer["detail"]
