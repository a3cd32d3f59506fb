"""The ids of docs/compatibility.md, by which tests and code name a deviation."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "compatibility.md"
DEFINED: Final = re.compile(r"^\| ([A-Z]+-\d+) \|", re.MULTILINE)
ROOMS: Final = (
    "cli",
    "clients",
    "jobs",
    "novadb",
    "runs",
    "schedules",
    "settings",
    "tests",
    "workers",
)


def test_an_id_stands_for_one_deviation_and_follows_the_one_before() -> None:
    ids = DEFINED.findall(PAGE.read_text())
    assert [name for name, times in Counter(ids).items() if times > 1] == []
    for before, name in pairwise(ids):
        kind, _, number = name.partition("-")
        assert before == f"{kind}-{int(number) - 1}" or number == "1", name


def test_every_id_that_is_cited_is_explained() -> None:
    defined = set(DEFINED.findall(PAGE.read_text()))
    kinds = "|".join(sorted({name.partition("-")[0] for name in defined}))
    cited = re.compile(rf"\b(?:{kinds})-\d+\b")
    for file in [PAGE, *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]:
        assert set(cited.findall(file.read_text())) <= defined, file
