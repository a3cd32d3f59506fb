"""Clouds to run the program on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import create_server

import pytest

from demo.cloud import build
from tests.realcloud import RealCloud


@pytest.fixture
def config(realcloud: RealCloud, tmp_path: Path) -> Path:
    """The nova.conf of the real cloud."""
    return realcloud.config(tmp_path)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The nova.conf of a sample cloud on SQLite."""
    return build(tmp_path / "cloud")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of 127.0.0.1 that accepts connections and never says a word."""
    with closing(create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]
