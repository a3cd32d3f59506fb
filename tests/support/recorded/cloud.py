"""A cloud in the state in which a record begins, and the state that a run leaves there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.placement import Placement
from tests.support.recorded.records import Fault, Record, full, short
from tests.support.recorded.stand_ins import PASSWORD, REGION, TOKEN, USER, Keystone, Neutron
from tests.support.relay import Relay
from tests.support.services import free_port
from tests.support.small_cloud import PROJECT, flavor
from tests.support.small_cloud import USER as OWNER
from tests.support.two_cells import TwoCells

QUICK: Final = "connect_retry_delay = 0.1\nstatus_code_retry_delay = 0.1\ntimeout = 5\n"
BY_PASSWORD: Final = f"""\
auth_type = password
auth_url = {{keystone}}/v3
username = {USER}
password = {PASSWORD}
project_name = service
user_domain_id = default
project_domain_id = default
region_name = {REGION}
"""
WRONG_PASSWORD: Final = BY_PASSWORD.replace(PASSWORD, "wrong")
WRONG_REGION: Final = BY_PASSWORD.replace(REGION, "nowhere")
NO_KEYSTONE: Final = BY_PASSWORD.replace("{keystone}", "{nobody}")
# Sections [placement] and [neutron] by what a record says of the configuration. None: there is no
# such section.
SECTIONS: Final[dict[str, tuple[str | None, str | None]]] = {
    "password": (BY_PASSWORD, BY_PASSWORD),
    "bad-password": (WRONG_PASSWORD, BY_PASSWORD),
    "neutron-bad-password": (BY_PASSWORD, WRONG_PASSWORD),
    "wrong-region": (WRONG_REGION, BY_PASSWORD),
    "keystone-down": (NO_KEYSTONE, NO_KEYSTONE),
    "endpoint-override": (BY_PASSWORD + "endpoint_override = {placement}\n", BY_PASSWORD),
    "placement-down": (BY_PASSWORD + "endpoint_override = {nobody}\n", BY_PASSWORD),
    "neutron-down": (BY_PASSWORD, BY_PASSWORD + "endpoint_override = {nobody}\n"),
    "no-placement": (None, BY_PASSWORD),
    "no-neutron": (BY_PASSWORD, None),
    **{
        f"{plugin}{suffix}": tuple(
            f"auth_type = {words}{way} = {{{service}}}\n" for service in ("placement", "neutron")
        )
        for plugin, words in {
            "admintoken": ("admin_token\ntoken = "
            f"{TOKEN}\n"), "httpbasic": "http_basic\nusername = u\npassword = p\n",
            "none": "none\n",
        }.items()
        for suffix, way in {"": "endpoint", "-override": "endpoint_override", "-endpoint": "endpoint"}.items()
    },
}  # fmt: skip
# What a relay sends to Placement instead of a token: there is none in HTTP's own authentication.
LENT: Final = {"token=lent": {None: TOKEN}, "token=open": {None: TOKEN, "notused": TOKEN}}


@dataclass(frozen=True)
class RecordedCloud:
    """Two cells and a real Placement; of Keystone and Neutron what stands in for them."""

    cells: TwoCells
    placement: Placement
    placement_relay: Relay
    keystone: Keystone
    neutron: Neutron
    neutron_relay: Relay

    def prepare(self, record: Record, folder: Path) -> Path:
        """Bring all into the state before; returns the nova.conf."""
        self.neutron.ports.clear()
        consumers: dict[str, tuple[Mapping[str, Mapping[str, int]], str, str]] = {}
        for line in record.before:
            kind, *words = line.split()
            named = _named(words)
            if kind == "consumer":
                held = _held(
                    word for word in words[1:] if not word.startswith(("project=", "user="))
                )
                consumers[full(words[0])] = (
                    held,
                    named.get("project") or PROJECT,
                    named.get("user") or OWNER,
                )
            elif kind in ("rp", "port"):
                {"rp": self._provide, "port": self._add_port}[kind](words, named)
            else:
                self._add_to_cells(kind, words, named)
        if consumers:
            self.placement.allocate_all(consumers)
        if record.away:
            self.cells.lose(record.away, free_port())
        if record.cellless:
            self.cells.forget_cells()
        for fault in record.faults:
            self._fail(fault)
        return self._configure(folder, *record.access)

    def state(self) -> set[str]:
        """Allocations, aggregates and profiles as the records have them."""
        found = {short(line) for line in self._consumers()} | {
            short(f"rp {uuid} aggs={','.join(sorted(aggregates))}")
            for uuid, aggregates in self.placement.all_aggregates().items()
        }
        for uuid, port in self.neutron.ports.items():
            if allocation := port["binding:profile"].get("allocation"):
                pairs = (
                    [allocation]
                    if isinstance(allocation, str)
                    else [":".join(one) for one in allocation.items()]
                )
                found.add(short(f"port {uuid} allocation={','.join(pairs)}"))
        return found

    def _consumers(self) -> Iterator[str]:
        for uuid, (held, project, user) in self.placement.all_allocations().items():
            owner = (
                []
                if (project, user) == (PROJECT, OWNER)
                else [f"project={project}", f"user={user}"]
            )
            amounts = [
                f"{provider}:{','.join(f'{kind}={n}' for kind, n in sorted(resources.items()))}"
                for provider, resources in sorted(held.items())
            ]
            yield " ".join(["consumer", uuid, *owner, *amounts])

    def _add_to_cells(
        self, kind: str, words: Sequence[str], named: Mapping[str, str | None]
    ) -> None:
        cells = self.cells
        if kind == "host_mapping":
            cells.map_host(words[0], words[2])
        elif kind == "aggregate":
            hosts = [
                host for host in (named["hosts"] or "").strip("[]").split(",") if host != "None"
            ]
            cells.aggregate(full(words[0]), words[1], *hosts)
        elif words[0] == "compute_node":
            cells.node(
                kind, full(words[1]), named["host"] or "", named["node"], deleted=named["deleted"]
            )
        elif words[0] == "migration":
            source, _, destination = words[3].partition("->")
            cells.migration(
                kind, full(words[1]), full(named["instance"] or ""), source, destination, words[4]
            )
        elif words[0] == "instance":
            self._add_instance(kind, full(words[1]), named)
        else:
            raise AssertionError((kind, *words))

    def _add_instance(self, cell: str, uuid: str, named: Mapping[str, str | None]) -> None:
        booted = named.get("volume") == "yes"
        columns = {
            name: named[name] for name in ("deleted", "vm_state", "task_state") if name in named
        }
        self.cells.instance(
            cell, uuid, named["host"], named["node"], project_id=PROJECT, user_id=OWNER,
            image_ref="" if booted else "image", **columns,
        )  # fmt: skip
        specs = dict(one.split("=", 1) for one in (named.get("specs") or "").split(";") if one)
        sizes = {
            "vcpus": "vcpus",
            "mem": "memory_mb",
            "root": "root_gb",
            "ephemeral": "ephemeral_gb",
            "swap": "swap",
        }
        given = {column: int(named[word] or 0) for word, column in sizes.items() if word in named}
        self.cells.equip(cell, uuid, flavor(specs, **given), from_volume=booted)
        if named.get("mapped") != "no":
            self.cells.map_instance(uuid, cell)

    def _provide(self, words: Sequence[str], named: Mapping[str, str | None]) -> None:
        inventory = {name: int(total) for name, total in _pairs(named.get("inv"), "=")}
        parent, traits = full(named.get("parent") or "") or None, tuple(_parts(named.get("traits")))
        self.placement.provide(full(words[0]), words[1], inventory, parent, traits)
        if aggregates := _parts(named.get("aggs")):
            self.placement.join(full(words[0]), *map(full, aggregates))

    def _add_port(self, words: Sequence[str], named: Mapping[str, str | None]) -> None:
        request: dict[str, Any] | None = None
        if "resources" in named:
            amounts = {name: int(amount) for name, amount in _pairs(named["resources"], "=")}
            request = {"required": _parts(named["required"]), "resources": amounts}
            if group := full(named["group"] or ""):
                request = {"request_groups": [{"id": group, **request}], "same_subtree": [group]}
        profile: dict[str, Any] = {}
        if allocation := full(named.get("allocation") or ""):
            profile = {
                "allocation": dict(_pairs(allocation, ":")) if ":" in allocation else allocation
            }
        uuid = full(words[0])
        self.neutron.ports[uuid] = {
            "id": uuid, "device_id": full(named["device"] or ""), "resource_request": request,
            "binding:profile": profile,
        }  # fmt: skip

    def _fail(self, fault: Fault) -> None:
        how = {"status": fault.status, "body": fault.body, "times": fault.times, "skip": fault.skip}
        relay = self.neutron_relay if fault.path.startswith("/v2.0") else self.placement_relay
        for method, path in _equivalents(fault.method, fault.path):
            relay.fail(method, path, **how)

    def _configure(self, folder: Path, way: str, token: str = "") -> Path:
        self.placement_relay.tokens = LENT.get(token, {})
        urls = {
            "keystone": self.keystone.url,
            "placement": self.placement_relay.url,
            "neutron": self.neutron_relay.url,
        }
        nobody = f"http://127.0.0.1:{free_port()}"
        sections = "".join(
            f"[{name}]\n{section.format(nobody=nobody, **urls)}{QUICK}"
            for name, section in zip(("placement", "neutron"), SECTIONS[way], strict=True)
            if section is not None
        )
        return self.cells.config(folder, sections)


def _equivalents(method: str, path: str) -> list[tuple[str, str]]:
    """The requests that take the place of one of the stock tool's, as regular expressions.

    All of a provider is read where the stock tool reads one consumer; what is left is written where
    it deletes (AUD-4); many consumers are written in one request.
    """
    if path.startswith("/allocations/"):
        if method == "GET":
            return [(method, path + "$"), (method, "^/resource_providers/.*/allocations$")]
        return [("PUT", path + "$"), ("POST", "^/allocations$")]
    return [(method, rf"{path}($|\?)")]


def _named(words: Sequence[str]) -> dict[str, str | None]:
    """``host=host1 task_state=None`` as a mapping."""
    pairs = (word.partition("=") for word in words)
    return {name: None if value == "None" else value for name, _, value in pairs}


def _parts(text: str | None) -> list[str]:
    return [part for part in (text or "").split(",") if part]


def _pairs(text: str | None, between: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (part.partition(between) for part in _parts(text))]


def _held(words: Iterator[str]) -> dict[str, dict[str, int]]:
    """``c001:VCPU=1,MEMORY_MB=512`` as allocations."""
    return {
        full(provider): {name: int(amount) for name, amount in _pairs(amounts, "=")}
        for provider, _, amounts in (word.partition(":") for word in words)
    }
