"""Conditions on Nova's columns that several actions share."""

from datetime import datetime

from sqlalchemy import ColumnElement, DateTime, column, literal


def older_than(name: str, moment: datetime) -> ColumnElement[bool]:
    """The condition that a column of time lies before a moment; never true of a row without a time."""
    return column(name, DateTime) < literal(moment, DateTime)
