"""Adding up counts by name."""

from collections import Counter
from collections.abc import Mapping


def add(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    """The sum of two counts; unlike with ``+``, a name with the count 0 stays."""
    total = Counter(one)
    total.update(two)
    return dict(total)
