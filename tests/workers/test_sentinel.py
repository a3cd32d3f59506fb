"""The Redis of the runs behind a Sentinel: with a password, and in a database that is not the first."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis as Client
from redis.exceptions import RedisError

from tests.support.realcloud import RealCloud
from tests.support.services import HOST, Redis
from tests.workers.conftest import PASSWORD
from tests.workers.fleet import Site

DATABASE = 2


class Sentinel(Redis):
    """A Sentinel, which tells where the master is."""

    def __init__(self, master: Redis) -> None:
        super().__init__()
        self._master = master

    def prepare(self) -> None:
        """Write its configuration, which it keeps up to date itself."""
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"sentinel monitor ours {HOST} {self._master.port} 1",
            f"sentinel auth-pass ours {self._master.password}",
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [self.programs["redis-server"], str(self.folder / "sentinel.conf"), "--sentinel"]

    def answers(self) -> bool:
        try:
            return Client(HOST, self.port).ping()
        except RedisError:
            return False


@pytest.fixture
def sentinel(broker: Redis) -> Iterator[Sentinel]:
    with Sentinel(broker) as server:
        yield server


def test_a_run_by_way_of_a_sentinel(realcloud: RealCloud, broker: Redis, sentinel: Sentinel, tmp_path: Path) -> None:
    site = Site(realcloud, broker, tmp_path, DATABASE)
    url = f"sentinel://:{PASSWORD}@{HOST}:{sentinel.port}/{DATABASE}"
    text = site.config.read_text().replace(broker.url(DATABASE), f"{url};{url}\nsentinel_master = ours")
    site.config.write_text(text)
    with site.worker() as worker:
        worker.serve()
        ended = site.call("db archive_deleted_rows --all-cells --until-complete")
    assert (ended.code, ended.err) == (1, "")
    assert PASSWORD not in worker.log
    (run,) = site.store.recent()
    assert site.record(run).exit_code == 1
    checked = {row["where"]: row["verdict"] for row in site.call("check -f json").document["findings"]}
    assert checked["Redis"] == "ok"
