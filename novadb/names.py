"""Names as Nova's databases compare them: of hosts, nodes and quotas, and UUIDs."""


def fold_name(name: str) -> str:
    """A name in the one form that all spellings share which MySQL takes for the same: neither case nor blanks at the
    end count.

    Whatever was read from one table is folded before it is looked up in memory, or among the rows of another database.
    A statement compares by itself.
    """
    return name.rstrip(" ").casefold()


def is_same_name(one: str | None, other: str | None) -> bool:
    """Whether MySQL takes two names for the same; two that are missing are not."""
    return one is not None and other is not None and fold_name(one) == fold_name(other)
