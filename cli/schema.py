"""Upgrading one database from the command line: alone on it, with a line for each thing that
happens.
"""

import logging
from dataclasses import dataclass
from typing import Final

from oslo_config import cfg

from cli.cell_runs import exclusively
from cli.output import say
from cli.signals import Stop
from jobs import schema as job
from novadb.engine import Database
from novadb.migrations.progress import UpgradeStopped
from novadb.migrations.upgrade import MAIN_SCHEMA, Schema, UpgradeResult
from runs.caller import caller
from runs.exclusion import Interrupted

LOG = logging.getLogger("cellkeeper.audit")

FAREWELL: Final = (
    "Left at once. The server ends its last statement by itself; the same command "
    "goes on from there."
)


@dataclass(frozen=True)
class Upgrader:
    """Upgrades databases for one command.

    :ivar revision: what the command line says, or None
    :ivar wait: whether to wait for another run on the same database
    :ivar stop: set when to end before the next change
    """

    conf: cfg.ConfigOpts
    revision: str | None
    wait: bool
    stop: Stop

    def upgrade(self, database: Database, schema: Schema = MAIN_SCHEMA) -> UpgradeResult:
        """Upgrade a database.

        :raises DatabaseProblem: it cannot be done; the text says what to do
        :raises KeyboardInterrupt: the operator has called it off
        :raises runs.exclusion.Busy: another run is at work on it, and the command must not wait
        """
        self.stop.farewell = FAREWELL
        action = "db.sync" if schema == MAIN_SCHEMA else "api_db.sync"

        def tell(line: str) -> None:
            say(f"{database.name}: {line}")

        try:
            with exclusively(self.conf, action, [database], self.wait, self.stop):
                done = job.upgrade(
                    database, schema, self.revision, tell=tell, stopped=self.stop.is_set
                )
        except (UpgradeStopped, Interrupted):
            tell("stopped; what was done stands, and the same command goes on from there")
            raise KeyboardInterrupt from None
        who = caller()
        LOG.info("%s by %s of %s: from %s to %s", action, who, database, done.before, done.after)
        return done
