"""Recorded runs of the stock tool's heal_allocations, done again: the same but for what is
documented.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.support.command import call
from tests.support.recorded.cloud import RecordedCloud
from tests.support.recorded.records import Record, read, short
from tests.support.recorded.replay import Instead, replay

RECORDS: Final = read("healing.txt")
SMALL: Final = "consumer 1001 c001:DISK_GB=10,MEMORY_MB=512,VCPU=1"
WHOLE: Final = SMALL + " d011:NET_BW_EGR_KILOBIT_PER_SEC=1000,NET_BW_IGR_KILOBIT_PER_SEC=2000"
NO_ROLE: Final = "the user of section [neutron] lacks a role"
NO_LOGIN: Final = "the login of section [neutron] of nova.conf is not accepted"
DEVIATIONS: Final = {
    "C50-heal-all": Instead("HEAL-1", code=0),
    "H05a-max-count-2": Instead("HEAL-1", out=False),
    "H05b-max-count-2-again": Instead("HEAL-1", out=False),
    "H05c-max-count-2-third": Instead("HEAL-1", out=False),
    "H06-max-count-equals": Instead("HEAL-1", code=0),
    "H09b-dry-run-quiet": Instead("HEAL-12", out=False),
    "H13-max-count-3-two-cells": Instead("HEAL-1", out=False),
    "H20c-no-compute-node-second": Instead("HEAL-2", there=("consumer 1003 c001:DISK_GB=10,MEMORY_MB=512,VCPU=1",)),
    "H32-placement-put-500": Instead("HEAL-7", code=3, err="Failed to update allocations for "
    "consumer 1001. Error: "),
    "H35-placement-get-500": Instead("HEAL-14", err="answered 500"),
    "H35b-placement-get-503": Instead("HEAL-14", err="answered 503"),
    "H35c-placement-get-garbage": Instead("HEAL-7", code=3, err="answered 200 with a body that is "
    "not JSON"),
    "H67-sev": Instead("HEAL-8", code=4),
    "H80-cell2-db-down": Instead("CLI-4", err="cell2 ("),
    "H90-exactly-49": Instead("HEAL-1", code=0),
    "H90-exactly-50": Instead("HEAL-1", code=0, there=("consumer 1099 c099:DISK_GB=10,MEMORY_MB=512,VCPU=1",)),
    "H91-max-count-dry-run": Instead("HEAL-1", out=False),
    "Q05-force-loses-port": Instead("HEAL-5", gone=(SMALL,), there=(WHOLE,)),
    "Q10-legacy-profile": Instead("HEAL-6", gone=(SMALL,), there=(WHOLE,)),
    "Q20-query-500": Instead("HEAL-14", err="GET /v2.0/ports: answered 500: boom"),
    "Q21-extensions-500": Instead("HEAL-4", code=0, there=(WHOLE, "port e001 allocation=b001:d011")),
    "Q36-update-401": Instead("HEAL-4", code=6, err=NO_LOGIN),
    "Q36-update-403": Instead("HEAL-4", code=6, err=NO_ROLE),
    "Q37-query-401": Instead("HEAL-4", code=5, err=NO_LOGIN),
    "Q37-query-403": Instead("HEAL-4", code=5, err=NO_ROLE),
    "Q38-no-service-role": Instead("HEAL-4", code=6, err=NO_ROLE),
    "Q40-neutron-down": Instead("HEAL-4", code=5, err="GET /v2.0/ports: no connection"),
    "Q42-no-neutron-section": Instead("CLI-4", err="cell1, cell2: Neutron is not configured"),
    "Q43-neutron-bad-password": Instead("CLI-4", err="cell1: Neutron: Keystone does not accept the "
    "login"),
}  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=[record.name for record in RECORDS])
def test_the_stock_tool_did_the_same(
    record: Record, recorded_cloud: RecordedCloud, tmp_path: Path
) -> None:
    replay(record, DEVIATIONS, recorded_cloud, tmp_path)


@pytest.mark.parametrize("name", ["Q31-update-second-fails", "Q33-rollback-fails-two"])
def test_what_is_done_with_ports_is_in_the_log(
    name: str, recorded_cloud: RecordedCloud, tmp_path: Path
) -> None:
    """HEAL-14: without --verbose, too."""
    (record,) = (record for record in RECORDS if record.name == name)
    config, log = recorded_cloud.prepare(record, tmp_path), tmp_path / "heal.log"
    call(f"--log-file {log} placement heal_allocations", config=config)
    logged = short(log.read_text())
    for line in record.out:
        if line.startswith(("Updating port", "Rolling back")):
            assert line.partition(" failed: ")[0] in logged
