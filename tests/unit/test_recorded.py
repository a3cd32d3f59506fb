"""The recorded runs: all are there, and what is wanted instead of one is documented."""

import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from tests.integration import test_recorded_access, test_recorded_healing, test_recorded_placement

DOCUMENTED: Final = set(
    re.findall(
        r"^\| ([A-Z]+-\d+) \|",
        (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text(),
        re.M,
    )
)
MODULES: Final = (test_recorded_healing, test_recorded_placement, test_recorded_access)


def test_there_are_228() -> None:
    names = Counter(record.name for module in MODULES for record in module.RECORDS)
    assert len(names) == names.total() == 228


@pytest.mark.parametrize("module", MODULES)
def test_every_deviation_is_one_of_a_record_and_is_documented(module: ModuleType) -> None:
    assert module.DEVIATIONS.keys() <= {record.name for record in module.RECORDS}
    assert {instead.id for instead in module.DEVIATIONS.values()} <= DOCUMENTED


@pytest.mark.parametrize("module", MODULES)
def test_a_traceback_of_the_stock_tool_is_a_deviation(module: ModuleType) -> None:
    assert {
        record.name for record in module.RECORDS if record.code == 255
    } <= module.DEVIATIONS.keys()
