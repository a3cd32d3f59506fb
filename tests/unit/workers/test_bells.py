"""The task of every action, given what is no bell: one line, and nothing else."""

from typing import Any

import pytest

from runs.records import FORMAT
from workers.app import app

BELL = {
    "run": "r",
    "phase": 0,
    "action": "db.purge",
    "number": 0,
    "cell": "uuid",
    "label": "cell1",
    "format": FORMAT,
}


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, "of another version"),
        (BELL | {"format": 1}, "of another version"),
        ({"format": FORMAT}, "no bell"),
        (BELL | {"number": "x"}, "no bell"),
        (BELL | {"run": None}, "no bell"),
    ],
)
def test_what_is_no_bell_is_thrown_away_with_a_line(
    fields: dict[str, Any], answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert app.tasks["db.purge"].run(**fields) == answer
    assert len(caplog.records) == 1
