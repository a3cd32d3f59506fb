"""Conditions on Nova's columns that several actions share."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, literal


def older_than(stamp: ColumnElement[Any], moment: datetime) -> ColumnElement[bool]:
    """The condition that a column of time lies before a moment; never true of a row without a
    time.
    """
    return stamp < literal(moment, DateTime)
