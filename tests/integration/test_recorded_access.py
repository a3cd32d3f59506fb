"""Recorded runs of the stock tool's ways to the services, done again: the same but for what is
documented.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.support.recorded.cloud import RecordedCloud
from tests.support.recorded.records import Record, read
from tests.support.recorded.replay import Instead, replay

RECORDS: Final = read("access.txt")
FORBIDDEN: Final = "Policy does not allow placement:"
DEVIATIONS: Final = {
    **{
        f"N-{server}-{plugin}-{command}": instead
        for server in ("addtoken", "plain")
        for plugin in ("none", "none-endpoint")
        for command, instead in {
            "audit": Instead("AUD-7", code=1, err=FORBIDDEN), "heal": Instead("HEAL-14", out=False, err=FORBIDDEN),
        }.items()
    },
    "N-plain-httpbasic-audit": Instead("AUD-7", code=1, err="answered 401: "),
    "N-plain-httpbasic-heal": Instead("HEAL-14", out=False, err="answered 401: "),
    **{
        f"X-{what}-{command}": Instead(entry, code, err=words, out=False)
        for what, words in {
            "bad-password": "requires authentication",
            "keystone-down": "no connection",
            "no-section": "is not configured",
            "placement-down": "no connection",
            "wrong-region": "in nowhere region not found",
        }.items()
        for command, entry, code in (("audit", "AUD-7", 1), ("sync", "SYN-4", 2), ("heal", "CLI-4", None))
    },
    "X-keystone-down-heal": Instead("HEAL-16", code=3, err="cell1, cell2: Placement: no "
    "connection"),
    "X-placement-down-heal": Instead("HEAL-14", out=False, err="no connection"),
}  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=[record.name for record in RECORDS])
def test_the_stock_tool_did_the_same(
    record: Record, recorded_cloud: RecordedCloud, tmp_path: Path
) -> None:
    replay(record, DEVIATIONS, recorded_cloud, tmp_path)
