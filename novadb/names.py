"""Names as Nova's databases compare them: of hosts, nodes and quotas, and UUIDs.

To MySQL, neither case nor blanks at the end of a text matter. Statements compare that way by
themselves; Python does not.
"""


def fold_name(name: str) -> str:
    """The one form shared by all spellings of a name that MySQL takes for the same.

    Fold every name that was read from a table before looking it up in memory, or among the rows of
    another database.
    """
    return name.rstrip(" ").casefold()


def is_same_name(one: str | None, other: str | None) -> bool:
    """Whether MySQL takes two names for the same; missing names are never the same."""
    if one is None or other is None:
        return False
    return fold_name(one) == fold_name(other)
