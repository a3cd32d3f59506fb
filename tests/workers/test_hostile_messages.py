"""What stands in a cell's queue and is no message costs itself and a line; the worker goes on."""

import json
from pathlib import Path

import pytest

from runs.conductor import queue_of
from tests.support.command import until
from tests.support.services import Redis
from tests.workers.fleet import Site
from tests.workers.sqlite_cloud import SqliteCloud

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
SECRET = "what-nobody-may-read"
PROPERTIES = {
    "delivery_tag": "tag", "delivery_info": {"exchange": "", "routing_key": "cellkeeper"}, "body_encoding": "base64",
    "correlation_id": "id", "delivery_mode": 2, "priority": 0,
}  # fmt: skip
WHOLE = {
    "body": "W10=", "content-encoding": "utf-8", "content-type": "application/json",
    "headers": {"task": "db.archive_deleted_rows", "id": "id"}, "properties": PROPERTIES,
}  # fmt: skip
MESSAGES: dict[str, str | bytes] = {
    "no JSON": SECRET,
    "nothing": "",
    "no UTF-8": b"\xff\xfe",
    "a number": "5",
    "a list": json.dumps([SECRET]),
    "an empty object": "{}",
    "an object of other things": json.dumps({"secret": SECRET}),
    "properties that are none": json.dumps(WHOLE | {"properties": SECRET}),
    "a body that is no base64": json.dumps(WHOLE | {"body": SECRET}),
    "a body that is no list": json.dumps(WHOLE | {"body": "NQ=="}),
    "another type of content": json.dumps(
        WHOLE | {"content-type": "application/x-python-serialize"}
    ),
    "a task that nobody knows": json.dumps(WHOLE | {"headers": {"task": "another", "id": "id"}}),
    "headers that are none": json.dumps(WHOLE | {"headers": SECRET}),
}


@pytest.fixture
def site(broker: Redis, tmp_path: Path) -> Site:
    return Site(SqliteCloud(), broker, tmp_path)


def test_what_is_no_message_costs_itself(site: Site) -> None:
    with site.worker() as worker:
        worker.serve()
        listed = site.call("cell_v2 list_cells -f json").document
        (queue,) = [queue_of(str(cell["uuid"])) for cell in listed if cell["name"] == "cell1"]
        for message in MESSAGES.values():
            site.client.lpush(queue, message)
        ended = site.call(ARCHIVE)
        assert ended.code == 1
        until(lambda: site.client.llen(queue) == 0 and site.client.hlen("unacked") == 0)
        assert worker.log.count("a message that cannot be read is thrown away") == len(MESSAGES)
        assert SECRET not in worker.log
        assert "Traceback" not in worker.log
        worker.terminate()
        assert worker.process.wait(60) == 0
