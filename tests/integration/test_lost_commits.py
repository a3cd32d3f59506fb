"""A commit whose answer is lost: what was done is found, and told as it would have been."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.command import call_here
from tests.support.mysql_relay import Cut, MysqlRelay
from tests.support.services import HOST
from tests.support.two_cells import CELLS, TwoCells

NEW: Final = (
    "--name new --transport-url rabbit://h/ --database_connection "
    "mysql+pymysql://n:n@127.0.0.1:1/new"
)
UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
LINES: Final = {
    f"cell_v2 create_cell --verbose {NEW}": "SELECT COUNT(*) FROM cell_mappings WHERE name = 'new'",
    f"cell_v2 update_cell --cell_uuid {CELLS['cell1']} --name new --keep-urls": (
        "SELECT COUNT(*) FROM cell_mappings WHERE name = 'new'"
    ),
    "cell_v2 map_cell0 --database_connection mysql+pymysql://n:n@127.0.0.1:1/new": (
        "SELECT COUNT(*) FROM cell_mappings WHERE name = 'cell0'"
    ),
    "cell_v2 map_cell_and_hosts --transport-url "
    "rabbit://h/": "SELECT COUNT(*) FROM host_mappings WHERE host = 'host1'",
}


class Bed:
    """Two cells, one with a host; the API database is reached through a relay."""

    def __init__(self, cells: TwoCells, relay: MysqlRelay, folder: Path) -> None:
        self.cells = cells
        self.relay = relay
        self._config = cells.config(folder, "")
        detour = f"@{HOST}:{cells.server.port}/", f"@{HOST}:{relay.port}/"
        self._config.write_text(self._config.read_text().replace(*detour))

    def run(self, line: str, cut_at: int | None) -> tuple[int, str]:
        """Run a command; returns how it ends and what it prints, but for a random UUID."""
        self.cells.empty()
        if "map_cell" in line:
            self.cells.forget_cells()
        self.cells.node("cell1", "cccccccc-0000-4000-8000-000000000001", "host1")
        self.relay.reset(cut_at, Cut.AFTER)
        ended = call_here(line, config=self._config)
        return ended.code, UUID.sub("UUID", ended.err + ended.out)


@pytest.fixture
def bed(two_cells: TwoCells, tmp_path: Path) -> Iterator[Bed]:
    with MysqlRelay(two_cells.server.port) as relay:
        yield Bed(two_cells, relay, tmp_path)


@pytest.mark.parametrize("line", LINES)
def test_what_a_lost_commit_has_done_is_done_once_and_told_as_done(bed: Bed, line: str) -> None:
    uncut = bed.run(line, None)
    commits = [number for number, packet in enumerate(bed.relay.said) if packet.text == "COMMIT"]
    assert uncut[0] == 0
    assert commits
    for number in commits:
        assert bed.run(line, number) == uncut
        assert bed.relay.has_cut
        assert bed.cells.server.execute(LINES[line], "two_cells_api") == [(1,)]
