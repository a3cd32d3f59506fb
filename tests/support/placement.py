"""A real Placement on loopback, and the configuration with which the program reaches it."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.support.services import HOST, PATIENCE, MariaDB, Service

SERVE: Final = Path(__file__).with_name("serve.py")
CONFIG: Final = """\
[api]
auth_strategy = noauth2
[placement_database]
connection = {database}
sync_on_startup = true
"""
# As in Nova's configuration; noauth2 takes the token for the name of the user.
NOVA_CONF: Final = """\
[placement]
auth_type = admin_token
token = admin
endpoint = {url}
connect_retry_delay = 0.1
status_code_retry_delay = 0.1
"""
VERSION: Final = "1.39"
# Children before parents. Resource classes, traits, projects and users stay: the server remembers
# their ids.
EMPTIED: Final = (
    "allocations", "consumers", "inventories", "resource_provider_traits", "resource_provider_aggregates",
    "placement_aggregates", "resource_providers",
)  # fmt: skip

ALLOCATIONS: Final = """\
SELECT consumers.uuid, projects.external_id, users.external_id, resource_providers.uuid, resource_classes.name, used
FROM allocations JOIN consumers ON consumers.uuid = consumer_id JOIN projects ON projects.id = project_id
JOIN users ON users.id = user_id JOIN resource_providers ON resource_providers.id = resource_provider_id
JOIN resource_classes ON resource_classes.id = resource_class_id
"""
AGGREGATES: Final = """\
SELECT resource_providers.uuid, placement_aggregates.uuid FROM resource_provider_aggregates
JOIN resource_providers ON resource_providers.id = resource_provider_id
JOIN placement_aggregates ON placement_aggregates.id = aggregate_id
"""


class Placement(Service):
    """Placement with a database on a MariaDB server. SQLite would not do: its writers get in each
    other's way.
    """

    PROGRAMS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, server: MariaDB, database: str = "placement", config: str = CONFIG) -> None:
        """:param database: is made where it is not there
        :param config: what its configuration is to be, with a place for the URL of the database
        """
        super().__init__()
        self._server = server
        self._database = database
        self._config = config
        self.token = "admin"

    def prepare(self) -> None:
        self._server.execute(
            f"CREATE DATABASE IF NOT EXISTS `{self._database}` CHARACTER SET utf8mb4"
        )
        text = self._config.format(database=self._server.url(self._database))
        (self.folder / "placement.conf").write_text(text)

    def command(self) -> list[str]:
        return [
            "env",
            f"OS_PLACEMENT_CONFIG_DIR={self.folder}",
            sys.executable,
            "-P",  # this folder has modules of the same names
            "-W",
            "ignore",
            str(SERVE),
            "placement.wsgi.api:application",
            str(self.port),
        ]

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=PATIENCE).close()
        except OSError:
            return False
        return True

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    def empty(self) -> None:
        """Forget all providers and consumers."""
        roots = "UPDATE resource_providers SET root_provider_id = NULL, parent_provider_id = NULL"
        for statement in (roots, *(f"DELETE FROM {table}" for table in EMPTIED)):
            self._server.execute(statement, self._database)

    def ask(self, method: str, path: str, document: Any = None, version: str = VERSION) -> Any:
        """Send a request as an administrator; returns the document that comes back, None for an
        empty answer.

        :raises urllib.error.HTTPError: it was refused
        """
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": f"placement {version}"}
        body = None if document is None else json.dumps(document).encode()
        headers |= {"Content-Type": "application/json"} if body else {}
        asked = urllib.request.Request(self.url + path, body, headers, method=method)
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def provide(
        self,
        uuid: str,
        name: str,
        inventory: Mapping[str, int],
        parent: str | None = None,
        traits: tuple[str, ...] = (),
    ) -> None:
        """Make a resource provider.

        :param inventory: totals by resource class
        """
        self.ask(
            "POST",
            "/resource_providers",
            {"uuid": uuid, "name": name, "parent_provider_uuid": parent},
        )
        for kind in {name for name in inventory if name.startswith("CUSTOM_")}:
            self.ask("PUT", f"/resource_classes/{kind}")
        for trait in (trait for trait in traits if trait.startswith("CUSTOM_")):
            self.ask("PUT", f"/traits/{trait}")
        for what, document in (
            (
                "inventories",
                {"inventories": {kind: {"total": total} for kind, total in inventory.items()}},
            ),
            ("traits", {"traits": list(traits)}),
        ):
            generation = self.ask("GET", f"/resource_providers/{uuid}")["generation"]
            document["resource_provider_generation"] = generation  # type: ignore[assignment]
            self.ask("PUT", f"/resource_providers/{uuid}/{what}", document)

    def allocate(
        self,
        consumer: str,
        allocations: Mapping[str, Mapping[str, int]],
        project: str,
        user: str,
        kind: str = "INSTANCE",
    ) -> None:
        """Give a new consumer what it holds, by provider."""
        self.ask("PUT", f"/allocations/{consumer}", {
            "allocations": {uuid: {"resources": dict(held)} for uuid, held in allocations.items()},
            "project_id": project, "user_id": user, "consumer_generation": None, "consumer_type": kind,
        })  # fmt: skip

    def allocate_all(
        self, consumers: Mapping[str, tuple[Mapping[str, Mapping[str, int]], str, str]]
    ) -> None:
        """Give new consumers, instances all, what they hold.

        :param consumers: allocations by provider, project and user, by consumer
        """
        self.ask("POST", "/allocations", {
            consumer: {
                "allocations": {uuid: {"resources": dict(resources)} for uuid, resources in held.items()},
                "project_id": project, "user_id": user, "consumer_generation": None, "consumer_type": "INSTANCE",
            }
            for consumer, (held, project, user) in consumers.items()
        })  # fmt: skip

    def begin_to_allocate(self, consumer: str) -> None:
        """Make a consumer without allocations, as a Placement that is killed while it makes a new
        one leaves it.
        """
        self._server.execute(
            "INSERT INTO consumers (uuid, project_id, user_id, generation) SELECT "
            f"'{consumer}', projects.id, users.id, 0 FROM projects, users LIMIT 1",
            self._database,
        )

    def fail_to_allocate(self, consumer: str) -> None:
        """Delete a consumer, as a Placement does that has made it and then is refused its
        allocations.
        """
        self._server.execute(f"DELETE FROM consumers WHERE uuid = '{consumer}'", self._database)

    def join(self, provider: str, *aggregates: str) -> None:
        """Put a provider into aggregates, and out of all others."""
        generation = self.ask("GET", f"/resource_providers/{provider}")["generation"]
        document = {"aggregates": list(aggregates), "resource_provider_generation": generation}
        self.ask("PUT", f"/resource_providers/{provider}/aggregates", document)

    def aggregates(self, provider: str) -> set[str]:
        """The aggregates that a provider is in."""
        return set(self.ask("GET", f"/resource_providers/{provider}/aggregates")["aggregates"])

    def held(self, consumer: str) -> dict[str, dict[str, int]]:
        """What a consumer holds, by provider."""
        allocations = self.ask("GET", f"/allocations/{consumer}")["allocations"]
        return {uuid: held["resources"] for uuid, held in allocations.items()}

    def all_allocations(self) -> dict[str, tuple[dict[str, dict[str, int]], str, str]]:
        """What every consumer holds by provider, its project and its user; read from the
        database.
        """
        found: dict[str, tuple[dict[str, dict[str, int]], str, str]] = {}
        for consumer, project, user, provider, name, used in self._server.execute(
            ALLOCATIONS, self._database
        ):
            held, _, _ = found.setdefault(consumer, ({}, project, user))
            held.setdefault(provider, {})[name] = used
        return found

    def all_aggregates(self) -> dict[str, set[str]]:
        """The aggregates of every provider that is in some; read from the database."""
        found: dict[str, set[str]] = {}
        for provider, aggregate in self._server.execute(AGGREGATES, self._database):
            found.setdefault(provider, set()).add(aggregate)
        return found

    def owner(self, consumer: str) -> tuple[str, str]:
        """Project and user of a consumer."""
        found = self.ask("GET", f"/allocations/{consumer}")
        return found["project_id"], found["user_id"]


def nova_conf(url: str) -> str:
    """The section of nova.conf for a Placement, perhaps by way of a relay."""
    return NOVA_CONF.format(url=url)
