"""What travels to workers arrives as it was sent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.actions import ACTIONS
from jobs.codec import decode, encode

st.register_type_strategy(datetime, st.datetimes())
st.register_type_strategy(float, st.floats(allow_nan=False))


def through_json(value: Any) -> Any:
    """A value after its travel."""
    return decode(type(value), json.loads(json.dumps(encode(value))))


@pytest.mark.parametrize("name", ACTIONS)
@given(data=st.data())
def test_whatever_an_action_is_given_and_tells_travels(name: str, data: st.DataObject) -> None:
    for kind in (ACTIONS[name].params, type(ACTIONS[name].nothing)):
        value = data.draw(st.from_type(kind))
        assert through_json(value) == value


@dataclass(frozen=True)
class Part:
    at: datetime
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    parts: Mapping[str, Part] = field(default_factory=dict)
    pair: tuple[int, Part] | None = None


def test_parts_of_parts_and_tuples_of_several_types_travel() -> None:
    part = Part(datetime(2026, 3, 1, 12, 30, 0, 5), ("a", "b"))
    whole = Whole({"first": part}, (3, part))
    assert encode(whole)["pair"][1]["at"] == "2026-03-01T12:30:00.000005Z"
    assert through_json(whole) == whole


def test_a_moment_with_a_zone_arrives_naive() -> None:
    assert decode(Part, {"at": "2026-03-01T12:30:00+00:00"}) == Part(datetime(2026, 3, 1, 12, 30))


def test_a_field_that_is_not_known_any_more_is_left_out() -> None:
    assert decode(Whole, {"pair": None, "of_old": 7}) == Whole()


@pytest.mark.parametrize("kind", [int | str, set[int], list[int]])
def test_a_type_that_nothing_can_be_told_of_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="does not travel"):
        decode(kind, ["1"])
