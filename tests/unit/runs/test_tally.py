"""The tally, read."""

from runs import tally


def test_entries_are_read_as_they_were_named() -> None:
    name = tally.entry_name(tally.ROWS, "db.purge", "uuid")
    assert tally.read({name: 5.0}) == [("rows", "db.purge", "uuid", 5.0)]


def test_an_entry_of_an_unknown_name_is_left_out() -> None:
    assert tally.read({"rows": 1.0, "rows db.purge": 2.0, "": 3.0, "rows db.purge a": 4.0}) == [
        ("rows", "db.purge", "a", 4.0)
    ]
