"""The commands of libvirt that walk over cells, in the process itself and through workers: the same
of both.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Ended, call
from tests.support.hypervisors import Hosts, forget, reachable, recorded, unset
from tests.support.realcloud import RealCloud
from tests.support.services import Redis
from tests.workers.fleet import Site, hooked

LIST, RECORD = "libvirt list_unset_machine_type", "libvirt record_machine_types"


@pytest.fixture
def own_site(realcloud: RealCloud, broker: Redis, tmp_path: Path) -> Site:
    return Site(realcloud, broker, tmp_path, database=3)


def timeless(ended: Ended) -> dict[str, Any]:
    """All of a document but the seconds that something took."""
    document: dict[str, Any] = ended.document
    for cell in document["cells"]:
        del cell["seconds"]
    return document


def test_both_engines_list_and_record_the_same(own_site: Site, tmp_path: Path) -> None:
    """Workers ask by their own configuration, the command by none; one that cannot ask says so."""
    cloud, cells = own_site.cloud, own_site.cloud.uuids.keys() - {"cell0"}
    names = [f"nova_{cell}" for cell in sorted(cells)]
    forget(cloud, *names)
    hosts = Hosts(tmp_path)
    real = hosts.have_all(cloud, *names)
    inline = own_site.config.with_name("inline.conf")
    inline.write_text(own_site.config.read_text().replace("broker_url", "# broker_url"))
    reachable(inline, hosts.template)
    with own_site.worker() as unable:
        unable.serve()
        lists = [
            own_site.call(f"{LIST} -f json"),
            call(f"{LIST} -f json", config=inline, env=hooked()),
        ]
        refused = own_site.call(RECORD)
    reachable(own_site.config, hosts.template)
    missing = unset(cloud, *names)
    before = own_site.config.read_text()
    with own_site.worker(name="able") as able:
        able.serve()
        own_site.config.write_text(before.replace("connection_uri", "# connection_uri"))
        dry = (
            own_site.call(f"{RECORD} --dry-run -f json"),
            call(f"{RECORD} --dry-run -f json", config=inline),
        )
        done = own_site.call(f"{RECORD} -f json")
    assert [ended.code for ended in (*lists, refused, *dry, done)] == [3, 3, 4, 3, 3, 3]
    assert timeless(lists[0]) == timeless(lists[1])
    assert [line.partition(":")[0] for line in refused.err.splitlines()] == sorted(cells)
    assert all("set connection_uri" in line for line in refused.err.splitlines())
    assert timeless(dry[0]) == timeless(dry[1])
    assert timeless(done) == timeless(dry[0]) | {"dry_run": False}
    now = recorded(cloud, *names)
    assert {place: now[place] for place in missing if place in real} == {
        p: real[p] for p in missing if p in real
    }
    assert len(own_site.store.recent()) == 4
