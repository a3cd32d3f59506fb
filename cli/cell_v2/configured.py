"""The cloud that the configuration names, and messages that several commands share."""

from dataclasses import dataclass
from typing import Final, Self

from oslo_config import cfg

from cli import configuration
from cli.output import put, say
from jobs.retry import one_transaction
from novadb import transport
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.mappings import CellMapping, DefaultUrls, find_cell_mapping
from novadb.transport import InvalidTransportUrl
from runs.targets import api_database

NOT_PROVIDED: Final = (
    "{} not provided in the command line, using the value {} from the configuration file"
)
MUST_SPECIFY: Final = "Must specify {} if {} is not set in the configuration file."


class UnusableUrl(Exception):
    """A URL that a cell cannot have. The text says why, and holds no secret."""


@dataclass(frozen=True)
class ConfiguredCloud:
    """What every command of the category works on.

    :ivar api: the API database
    :ivar defaults: the URLs in the configuration
    """

    conf: cfg.ConfigOpts
    api: Database
    defaults: DefaultUrls

    @classmethod
    def load(cls) -> Self:
        """Read the configuration.

        :raises DatabaseProblem: it names no API database
        """
        conf = configuration.load()
        own = conf.database
        return cls(
            conf,
            api_database(conf),
            DefaultUrls(own.connection, conf.transport_url, own.connection_parameters),
        )

    def find_cell(self, uuid: str) -> CellMapping | None:
        """The cell with this UUID; None: there is none.

        :raises DatabaseProblem: the API database cannot be used
        """
        return one_transaction(
            self.api, lambda connection: find_cell_mapping(connection, self.defaults, uuid)
        )

    def usable_transport_url(self, given: str | None) -> str:
        """The transport URL given, or else the configured one, about which a line is printed.

        :returns: the URL as it is to be stored; it may be a template
        :raises UnusableUrl: there is none, or oslo.messaging would not accept it
        """
        url = given or self.defaults.transport
        if not url:
            raise UnusableUrl(MUST_SPECIFY.format("--transport-url", "[DEFAULT]/transport_url"))
        if not given:
            put(NOT_PROVIDED.format("--transport-url", "[DEFAULT]/transport_url"))
        try:
            parsed = transport.parse_transport_url(self.defaults.transport_url(url))
        except InvalidTransportUrl as error:
            raise UnusableUrl(f"Invalid transport URL: {error}") from error
        if parsed.credentials_are_mixed:
            say(
                "Warning: some hosts of the transport URL have a user and a password, "
                "others have none"
            )
        return url

    def usable_database_url(self, given: str | None) -> str:
        """The database URL given, or else the configured one, about which a line is printed.

        If nobody answers there yet, there is a warning.

        :raises UnusableUrl: there is none, or it is not a database URL
        """
        url = given or self.defaults.database
        if not url:
            raise UnusableUrl(MUST_SPECIFY.format("--database_connection", "[database]/connection"))
        if not given:
            put(NOT_PROVIDED.format("--database_connection", "[database]/connection"))
        self.check_database(url)
        return url

    def check_database(self, url: str) -> None:
        """Warn if nobody answers at a database URL.

        :raises UnusableUrl: it is not a database URL
        """
        try:
            database = Database(
                self.defaults.database_url(url),
                "the database",
                self.api.timeouts,
                self.defaults.parameters,
            )
        except DatabaseProblem as problem:
            raise UnusableUrl(f"Invalid database connection: {problem}") from problem
        try:
            with database.connect():
                pass
        except DatabaseProblem as problem:
            say(f"Warning: it cannot be reached from here: {problem}")


ARCHIVE_COMMAND: Final = "cellkeeper db archive_deleted_rows --all-cells"
"""The command that the stock tool advises, as this program has it, for any cell."""


def unknown_cell_line(uuid: str) -> str:
    """The stock tool's line about a cell that is not mapped."""
    return f"Cell with uuid {uuid} was not found."
