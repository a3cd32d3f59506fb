"""A Redis Cluster is refused by name, with one line, by whatever would use it, before anything
begins.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.command import until
from tests.support.services import HOST, Redis, free_port
from tests.workers.conftest import PASSWORD
from tests.workers.fleet import Site
from tests.workers.sqlite_cloud import SqliteCloud

SLOTS = 16_384
REFUSED = (
    "The Redis of section [celery] is a Redis Cluster, which Celery cannot use: name a "
    "Redis, or Sentinels"
)
SCHEDULE = """
[flower]
password = of-the-page
[schedule]
enabled = daily
[schedule_daily]
cron = 0 3 * * *
command = db purge --all-cells --all
"""
LINES = (
    "worker",
    "worker --ping",
    "beat",
    "flower",
    "db archive_deleted_rows --all-cells",
    "runs list",
    "runs hold --reason test",
    "schedule list",
)


class Node(Redis):
    """One of a Redis Cluster."""

    def __init__(self) -> None:
        self.bus = free_port()
        super().__init__(
            "--cluster-enabled", "yes", "--cluster-port", str(self.bus), password=PASSWORD
        )


def make_cluster(nodes: Sequence[Node]) -> None:
    """Let nodes know each other and share the slots."""
    first, share = nodes[0], -(-SLOTS // len(nodes))
    for number, node in enumerate(nodes):
        last = min((number + 1) * share, SLOTS) - 1
        node.execute(f"CLUSTER ADDSLOTSRANGE {number * share} {last}")
        if node is not first:
            node.execute(f"CLUSTER MEET {HOST} {first.port} {first.bus}")
    for node in nodes:
        until(lambda node=node: "cluster_state:ok" in node.execute("CLUSTER INFO"))  # type: ignore[misc]


@pytest.fixture(scope="module", params=[1, 3], ids=["one node", "three nodes"])
def node(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """One of the nodes of a cluster."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node()) for _ in range(request.param)]
        make_cluster(nodes)
        yield nodes[-1]


def site_of(node: Redis, folder: Path, database: int) -> Site:
    """A cloud whose configuration names the cluster."""
    site = Site(SqliteCloud(), node, folder, database)
    site.config.write_text(site.config.read_text() + SCHEDULE)
    return site


def test_whatever_would_use_it_refuses(node: Redis, tmp_path: Path) -> None:
    site = site_of(node, tmp_path, 0)
    for line in LINES:
        ended = site.call(line)
        assert (line, ended.code != 0, ended.out, ended.line) == (line, True, "", REFUSED)


def test_a_database_that_no_cluster_has_is_told_as_one(node: Redis, tmp_path: Path) -> None:
    ended = site_of(node, tmp_path, 1).call("worker")
    assert (ended.code != 0, ended.line) == (True, REFUSED)


@pytest.mark.parametrize("database", [0, 1])
def test_check_names_it(node: Redis, tmp_path: Path, database: int) -> None:
    found = site_of(node, tmp_path, database).call("check -f json").document["findings"]
    (row,) = [row for row in found if row["where"] == "Redis"]
    assert (row["verdict"], row["detail"]) == ("failed", REFUSED)
