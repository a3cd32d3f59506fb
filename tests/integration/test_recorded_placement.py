"""Recorded runs of the stock tool's audit and sync_aggregates, done again: the same but for what is
documented.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.support.recorded.cloud import RecordedCloud
from tests.support.recorded.records import Record, read
from tests.support.recorded.replay import Instead, replay

RECORDS: Final = read("placement.txt")
DEVIATIONS: Final = {
    "A10b-quiet": Instead("AUD-1", out=False),
    "A52-sharing-provider": Instead("AUD-3", code=0, out=False),
    "A53-sharing-provider-delete": Instead(
        "AUD-3", code=0, out=False,
        gone=("consumer 1001 c001:MEMORY_MB=512,VCPU=1",),
        there=("consumer 1001 c001:MEMORY_MB=512,VCPU=1 d005:DISK_GB=10",),
    ),
    "A60-delete-500": Instead("AUD-5", out=False, gone=("consumer f002 c002:DISK_GB=10,MEMORY_MB=512,VCPU=1",)),
    "A61-put-409": Instead("AUD-6", code=1, out=False),
    "A62-rp-allocations-500": Instead("AUD-7", code=1, out=False),
    "A63-rps-500": Instead("AUD-7", code=1),
    "A64-consumer-generation-conflict": Instead("AUD-5", out=False),
    "A80-cell2-db-down": Instead("AUD-2", code=1),
    "A81-own-cell-db-down": Instead("AUD-2", code=1, out=False),
    "C50-audit-orphans": Instead("AUD-1", out=False),
    "C50-audit-delete": Instead("AUD-1", out=False),
    "C200-audit-orphans": Instead("AUD-1", out=False),
    "C200-audit-delete": Instead("AUD-1", out=False),
    "S02-again": Instead("SYN-1", out=False),
    "S20-get-aggregates-500": Instead("SYN-3", out=False, there=("rp c002 aggs=a001",)),
    "S21-provider-missing": Instead("SYN-2", code=6),
    "S22-provider-missing-second": Instead("SYN-2", code=6, out=False, there=("rp c003 aggs=a001",)),
    "S30-put-500": Instead("SYN-3", out=False, there=("rp c002 aggs=a001",)),
    "S32-put-409-always": Instead("SYN-3", out=False, there=("rp c002 aggs=a001",)),
    "S52-twice": Instead("SYN-1", out=False),
}  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=[record.name for record in RECORDS])
def test_the_stock_tool_did_the_same(
    record: Record, recorded_cloud: RecordedCloud, tmp_path: Path
) -> None:
    replay(record, DEVIATIONS, recorded_cloud, tmp_path)
