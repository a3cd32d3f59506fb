"""How far a migration is: what its changes know of each other, and what the operator is told."""

from collections.abc import Callable
from dataclasses import dataclass


class Overtaken(Exception):
    """Meanwhile another process has brought the database to another revision."""


class UpgradeStopped(Exception):
    """The operator has stopped the upgrade; the next run continues after what was done."""


@dataclass
class MigrationProgress:
    """One migration of one database: the attribute ``progress`` of alembic's configuration.

    :ivar tell: is given each line for the operator
    :ivar stopped: whether to end before the next change
    :ivar heads: the revision at which the current changes begin: one, or none at the very start
    :ivar changes_present: how many changes of the current revision an interrupted run has made
    """

    tell: Callable[[str], None]
    stopped: Callable[[], bool]
    heads: tuple[str, ...]
    changes_present: int = 0

    def before_change(self, heads: tuple[str, ...]) -> None:
        """
        :param heads: the revision that the database has right now
        :raises UpgradeStopped: the operator has stopped the upgrade
        :raises Overtaken: the changes do not begin at this revision
        """
        if self.stopped():
            raise UpgradeStopped
        if heads != self.heads:
            raise Overtaken
        if self.changes_present:
            self.tell(
                f"changes of this revision that were made before: {self.changes_present}; "
                "going on from there"
            )
            self.changes_present = 0

    def applied(self, revision: str, title: str) -> None:
        """Note a revision that is complete."""
        self.heads = (revision,)
        self.changes_present = 0
        self.tell(f"{revision}: {title}")
