"""What the tests of the commands work on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo_cloud import DemoCloud
from tests.support.memory_runs import MemoryRuns


@pytest.fixture(scope="session")
def untouched_cloud(tmp_path_factory: pytest.TempPathFactory) -> DemoCloud:
    """A cloud that no test changes."""
    return DemoCloud(tmp_path_factory.mktemp("demo") / "cloud")


@pytest.fixture
def cloud(untouched_cloud: DemoCloud, tmp_path: Path) -> DemoCloud:
    """A cloud of the test's own."""
    return untouched_cloud.copy(tmp_path / "cloud")


@pytest.fixture
def workers(cloud: DemoCloud) -> Iterator[MemoryRuns]:
    """The workers of the cloud, with their runs in memory."""
    runs = MemoryRuns(cloud)
    yield runs
    runs.close()
