"""Moments without a zone are found wherever they stand in a document."""

import json
from typing import Any

import pytest

from tests.support import moments


@pytest.mark.parametrize(
    ("value", "is_vague"),
    [
        ("2026-11-27T02:00:00Z", False),
        ("2026-11-27T02:00:00.250000Z", False),
        ("2026-11-27T02:00:00+01:00", False),
        ("2026-11-27T02:00:00", True),
        ("2026-11-27 02:00:00", True),
        ("2026-11-27 02:00:00+01:00", True),
        ("2026-11-27 02:00:00 CET", True),
        ("2026-11-27T02:00", True),
        ("2026-11-27", True),
        (1_790_000_000, True),
        (1_790_000_000.25, True),
        (1000, False),
        (True, False),
        (None, False),
        ("the oldest of 2024-02-01, 1027 days ago", False),
        ("nightly_archive-20261125T010000Z", False),
    ],
)
def test_a_moment_without_a_zone_is_found(value: Any, is_vague: bool) -> None:
    for document in (value, [value], {"a": {"b": [0, value]}}):
        assert bool(list(moments.vague_moments(document))) is is_vague


def test_it_is_named_with_its_place() -> None:
    with pytest.raises(AssertionError, match=r"\.cells\[1\]\.oldest: 2026-11-27 02:00:00"):
        moments.check(json.dumps({"cells": [{}, {"oldest": "2026-11-27 02:00:00"}]}))


def test_what_is_no_document_is_left_alone() -> None:
    moments.check("[usage] 2026-11-27\n")
