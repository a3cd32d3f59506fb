"""Clouds to run the program on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import create_server

import pytest

from demo.cloud import build
from tests.support.realcloud import RealCloud


@pytest.fixture
def config(realcloud: RealCloud, tmp_path: Path) -> Path:
    """The nova.conf of the real cloud."""
    return realcloud.config(tmp_path)


@pytest.fixture(scope="module")
def untouched(loaded_realcloud: RealCloud) -> RealCloud:
    """The databases of the real cloud, as dumped, for modules whose tests write nothing: they share
    one restoration.
    """
    loaded_realcloud.restore()
    return loaded_realcloud


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The nova.conf of a sample cloud on SQLite."""
    return build(tmp_path / "cloud")


@pytest.fixture(scope="module")
def untouched_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nova.conf of a sample cloud that no test changes."""
    return build(tmp_path_factory.mktemp("sample") / "cloud")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of 127.0.0.1 that accepts connections and never says a word."""
    with closing(create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]
