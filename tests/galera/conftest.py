"""The real cloud on a Galera cluster, as clients see it: behind a proxy that sends them all to one
node.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.galera.cluster import Cluster
from tests.support.program import Program
from tests.support.realcloud import RealCloud


@pytest.fixture(scope="session")
def started_cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def loaded_realcloud(started_cluster: Cluster) -> RealCloud:
    return RealCloud(started_cluster.proxy)


@pytest.fixture
def cluster(started_cluster: Cluster) -> Cluster:
    """The cluster, whole, and nobody limits anything."""
    started_cluster.revive()
    return started_cluster


@pytest.fixture
def realcloud(cluster: Cluster, loaded_realcloud: RealCloud) -> RealCloud:
    """The databases of the real cloud on it, as dumped."""
    loaded_realcloud.restore()
    cluster.wait_until_applied()
    return loaded_realcloud


@pytest.fixture
def program(realcloud: RealCloud, tmp_path: Path) -> Program:
    return Program(realcloud.config(tmp_path), realcloud.api)
