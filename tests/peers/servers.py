"""Keystone and Neutron on loopback, from an environment of their own: ``.tools/peers``."""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.support.placement import SERVE
from tests.support.services import HOST, MariaDB, MissingProgram, Service

ENVIRONMENT: Final = Path(__file__).parents[2] / ".tools" / "peers"
PASSWORD: Final = "peer-secret"
USERS: Final = {"nova": ("admin", "service"), "placement": ("admin", "service"), "neutron": ("admin", "service"),
                "plain": ("admin",)}  # fmt: skip
KEYSTONE: Final = """\
[database]
connection = sqlite:///{folder}/keystone.sqlite
[token]
expiration = 86400
[fernet_tokens]
key_repository = {folder}/fernet
[fernet_receipts]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
"""
AUTHTOKEN: Final = """\
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = {user}
password = {password}
project_name = service
user_domain_id = default
project_domain_id = default
"""
NEUTRON: Final = """\
[DEFAULT]
auth_strategy = keystone
core_plugin = ml2
service_plugins = qos
transport_url = fake://
api_paste_config = {environment}/etc/neutron/api-paste.ini
state_path = {folder}/state
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
dhcp_agent_notification = false
[oslo_concurrency]
lock_path = {folder}/state/lock
[oslo_messaging_notifications]
driver = noop
[database]
connection = {database}
[ml2]
type_drivers = flat,vlan
tenant_network_types =
mechanism_drivers = openvswitch
extension_drivers = qos
[ml2_type_flat]
flat_networks = *
[quotas]
quota_driver = neutron.db.quota.driver_null.DbQuotaDriverNull
"""
# Much quicker than neutron-db-manage, which goes through all its history.
NEUTRON_TABLES: Final = """
import sys
import sqlalchemy
from neutron.db.migration.models import head
from neutron_lib.db import model_base
model_base.BASEV2.metadata.create_all(sqlalchemy.create_engine(sys.argv[1]))
"""


def peer_program(name: str) -> str:
    """The path of a program of the environment.

    :raises MissingProgram: it is not made
    """
    path = ENVIRONMENT / "bin" / name
    if not path.exists():
        raise MissingProgram(f"{path} is not there: run make test-peers")
    return str(path)


def authtoken(keystone: str, user: str) -> str:
    """The section with which a service has its tokens checked."""
    return AUTHTOKEN.format(keystone=keystone, user=user, password=PASSWORD)


def ask(method: str, url: str, document: Any = None, token: str = "") -> tuple[Any, dict[str, str]]:
    """Send a request; returns the document and the headers that come back.

    :raises urllib.error.HTTPError: it was refused
    """
    headers = {"Content-Type": "application/json"} | ({"X-Auth-Token": token} if token else {})
    body = None if document is None else json.dumps(document).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, body, headers, method=method), timeout=60
    ) as answer:
        text = answer.read()
        return (json.loads(text) if text else None), dict(answer.headers)


class Peer(Service):
    """A server of the environment, answering HTTP."""

    PROGRAMS: ClassVar[tuple[str, ...]] = ()
    APPLICATION: ClassVar[str]
    VARIABLES: ClassVar[dict[str, str]]

    def command(self) -> list[str]:
        variables = [
            f"{name}={value.format(folder=self.folder)}" for name, value in self.VARIABLES.items()
        ]
        python = [peer_program("python"), "-P", "-W", "ignore"]
        return ["env", *variables, *python, str(SERVE), self.APPLICATION, str(self.port)]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    def answers(self) -> bool:
        try:
            ask("GET", f"{self.url}/")
        except urllib.error.HTTPError as error:
            return error.code < 500
        except OSError:
            return False
        return True


class Keystone(Peer):
    """Keystone with the users of the services and their catalog."""

    APPLICATION = "keystone.wsgi.api:application"
    VARIABLES: ClassVar[dict[str, str]] = {"OS_KEYSTONE_CONFIG_DIR": "{folder}"}

    def prepare(self) -> None:
        (self.folder / "keystone.conf").write_text(KEYSTONE.format(folder=self.folder))
        manage = [peer_program("python"), "-W", "ignore", peer_program("keystone-manage")]
        manage += ["--config-file", str(self.folder / "keystone.conf")]
        owner = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
        self.run(*manage, "db_sync")
        self.run(*manage, "fernet_setup", *owner)
        self.run(*manage, "credential_setup", *owner)
        urls = [f"--bootstrap-{kind}-url={self.url}/v3" for kind in ("admin", "public", "internal")]
        named = [
            "--bootstrap-username",
            "admin",
            "--bootstrap-password",
            PASSWORD,
            "--bootstrap-project-name",
            "admin",
        ]
        region = ["--bootstrap-role-name", "admin", "--bootstrap-region-id", "RegionOne"]
        self.run(
            *manage, "bootstrap", *named, *region, "--bootstrap-service-name", "keystone", *urls
        )

    def token(self, user: str, project: str) -> str:
        """A token of a user."""
        domain = {"id": "default"}
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": domain, "password": PASSWORD}},
        }
        scope = {"project": {"name": project, "domain": domain}}
        _, headers = ask(
            "POST", f"{self.url}/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}}
        )
        return headers["X-Subject-Token"]

    def register(self, services: dict[str, str]) -> None:
        """Make the users of the services, and the catalog.

        :param services: URL by service type
        """
        token = self.token("admin", "admin")

        def make(path: str, kind: str, **fields: Any) -> str:
            document, _ = ask("POST", f"{self.url}/v3/{path}", {kind: fields}, token)
            return str(document[kind]["id"])

        roles = {
            one["name"]: one["id"]
            for one in ask("GET", f"{self.url}/v3/roles", token=token)[0]["roles"]
        }
        project = make("projects", "project", name="service", domain_id="default")
        for user, its_roles in USERS.items():
            uuid = make("users", "user", name=user, domain_id="default", password=PASSWORD)
            for role in its_roles:
                ask(
                    "PUT",
                    f"{self.url}/v3/projects/{project}/users/{uuid}/roles/{roles[role]}",
                    None,
                    token,
                )
        for kind, url in services.items():
            service = make("services", "service", type=kind, name=kind)
            for interface in ("public", "internal"):
                make(
                    "endpoints",
                    "endpoint",
                    service_id=service,
                    interface=interface,
                    url=url,
                    region_id="RegionOne",
                )


class Neutron(Peer):
    """Neutron with QoS, without agents."""

    APPLICATION = "neutron.wsgi.api:application"
    VARIABLES: ClassVar[dict[str, str]] = {
        "OS_NEUTRON_CONFIG_DIR": "{folder}",
        "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
    }

    def __init__(self, server: MariaDB, keystone: Keystone) -> None:
        """:param server: of its database; on SQLite, writers would get in each other's way"""
        super().__init__()
        self._server = server
        self._keystone = keystone

    def prepare(self) -> None:
        (self.folder / "state").mkdir()
        self._server.create("neutron_of_peers")
        database = self._server.url("neutron_of_peers")
        text = NEUTRON.format(folder=self.folder, environment=ENVIRONMENT, database=database)
        (self.folder / "neutron.conf").write_text(text + authtoken(self._keystone.url, "neutron"))
        self.run(peer_program("python"), "-W", "ignore", "-c", NEUTRON_TABLES, database)

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """Send a request as an administrator; returns the document that comes back."""
        return ask(method, f"{self.url}/v2.0/{path}", document, self._token)[0]

    @property
    def _token(self) -> str:
        if not hasattr(self, "_known"):
            self._known = self._keystone.token("nova", "service")
        return self._known

    def make_network(self) -> str:
        """A network with a subnet."""
        network = str(self.ask("POST", "networks", {"network": {
            "name": "n", "provider:network_type": "flat", "provider:physical_network": "physnet0",
        }})["network"]["id"])  # fmt: skip
        subnet = {"network_id": network, "cidr": "10.0.0.0/16", "ip_version": 4}
        self.ask("POST", "subnets", {"subnet": subnet})
        return network

    def make_policy(self, kilobits: int) -> str:
        """A QoS policy that guarantees so much in each direction."""
        policy = str(
            self.ask("POST", "qos/policies", {"policy": {"name": f"q{kilobits}"}})["policy"]["id"]
        )
        for direction in ("egress", "ingress"):
            rule = {"min_kbps": kilobits, "direction": direction}
            self.ask(
                "POST",
                f"qos/policies/{policy}/minimum_bandwidth_rules",
                {"minimum_bandwidth_rule": rule},
            )
        return policy

    def make_port(self, network: str, device: str, policy: str | None = None, **more: Any) -> str:
        """A port of an instance."""
        port = {
            "network_id": network,
            "device_id": device,
            "device_owner": "compute:nova",
            "qos_policy_id": policy,
        }
        return str(self.ask("POST", "ports", {"port": port | more})["port"]["id"])

    def delete_ports(self) -> None:
        """Delete all ports."""
        for port in self.ask("GET", "ports?fields=id")["ports"]:
            self.ask("DELETE", f"ports/{port['id']}")

    def profile(self, port: str) -> dict[str, Any]:
        """The binding profile of a port."""
        found: dict[str, Any] = self.ask("GET", f"ports/{port}")["port"]["binding:profile"]
        return found
