"""How far a migration is: what its changes need to know of each other, and what they tell the operator."""

from collections.abc import Callable
from dataclasses import dataclass


class Overtaken(Exception):
    """Another process has brought the database to another revision meanwhile."""


class UpgradeStopped(Exception):
    """The operator has called it off; what was done stands, and a next run goes on from there."""


@dataclass
class MigrationProgress:
    """One migration of one database; alembic's configuration carries it along as the attribute ``progress``.

    :ivar tell: is given each line for the operator
    :ivar stopped: whether to end before the next change
    :ivar heads: the revision from which the current changes begin: one, or none at the very start
    :ivar found: changes of this revision that were there already: an earlier run was interrupted
    """

    tell: Callable[[str], None]
    stopped: Callable[[], bool]
    heads: tuple[str, ...]
    found: int = 0

    def before_change(self, heads: tuple[str, ...]) -> None:
        """
        :param heads: what the database says of its revision right now
        :raises Stopped: the operator has called it off
        :raises Overtaken: the revision is another one than that of the changes
        """
        if self.stopped():
            raise UpgradeStopped
        if heads != self.heads:
            raise Overtaken
        if self.found:
            self.tell(f"changes of this revision that were made before: {self.found}; going on from there")
            self.found = 0

    def applied(self, revision: str, title: str) -> None:
        """Note a revision that is complete."""
        self.heads, self.found = (revision,), 0
        self.tell(f"{revision}: {title}")
