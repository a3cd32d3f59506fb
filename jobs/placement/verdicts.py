"""What healing knows about an instance, decides for it, and makes of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Final

from clients.neutron import Port
from clients.placement import Consumer
from jobs.placement import ports
from jobs.placement.instances import Instance, ResourceNeed


class Exit(IntEnum):
    """The manual's return codes, and 8, which Nova has and the manual leaves out."""

    HEALED = 0
    MAX_COUNT = 1
    NO_COMPUTE_NODE = 2
    NOT_WRITTEN = 3
    NOTHING_HEALED = 4
    NO_PORTS = 5
    PORTS_NOT_WRITTEN = 6
    PORTS_NOT_ROLLED_BACK = 7
    NOT_SUPPORTED = 8
    INVALID_INPUT = 127
    ERROR = 255


@dataclass(frozen=True)
class Subject:
    """An instance, with all that the decision about it rests on.

    :ivar node: the uuid of its compute node and so of its provider; None: there is no such node
    :ivar need: None: its flavor cannot be read, or was not read because nothing depends on it
    :ivar consumer: what it holds; from a snapshot, this has no generation
    :ivar nodes_on_host: the names of the compute nodes that its host has
    """

    instance: Instance
    node: str | None
    need: ResourceNeed | None
    consumer: Consumer
    ports: tuple[Port, ...] = ()
    nodes_on_host: tuple[str, ...] = ()

    @property
    def uuid(self) -> str:
        """The uuid of the instance."""
        return self.instance.uuid

    @property
    def has_right_owner(self) -> bool:
        """Whether what it holds is booked on the project and user of the instance."""
        return self.consumer.owner == self.instance.owner


class Change(StrEnum):
    """What is done to the allocations of an instance. The words are part of the JSON output."""

    CREATED = "created"
    UPDATED = "updated"


# In a dry run the stock tool says what it would do.
_IMPERATIVES: Final = {Change.CREATED: "Create", Change.UPDATED: "Update"}


@dataclass(frozen=True)
class HealedInstance:
    """An instance that was healed; in a dry run, one that would be.

    :ivar what: a ``Change``
    :ivar allocations: what it holds now, by provider and resource class
    :ivar ports: the ports whose binding profiles were written
    """

    instance: str
    what: str
    project_id: str
    user_id: str
    allocations: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class HealProblem:
    """Why an instance could not be healed.

    :ivar instance: its uuid; empty: the problem is that of several instances
    :ivar code: the return code that it leads to
    :ivar text: a line for an operator
    """

    instance: str
    code: int
    text: str


class Verdict(Enum):
    """What becomes of an instance that nothing is written for, though it has no problem."""

    UP_TO_DATE = "there is nothing to heal"
    NOT_LOOKED_AT = "a service had become unusable before its turn"
    POSTPONED = "an earlier request may still be writing it; see ``Healer.settle``"


@dataclass(frozen=True)
class Plan:
    """What to write for an instance.

    :ivar after: what it is to hold
    :ivar profiles: ports that are written first
    """

    subject: Subject
    change: Change
    after: Consumer
    profiles: tuple[ports.NewProfile, ...] = ()

    @property
    def uuid(self) -> str:
        """The uuid of the instance."""
        return self.subject.uuid

    @property
    def healed(self) -> HealedInstance:
        """The instance once the plan is carried out."""
        return HealedInstance(
            self.uuid,
            self.change.value,
            self.after.project_id,
            self.after.user_id,
            self.after.allocations,
            tuple(port.id for port, _ in self.profiles),
        )

    @property
    def port_lines(self) -> Iterator[str]:
        """What the stock tool prints about ports before anything is written."""
        for port, profile in self.profiles:
            yield (
                f"Found a request group : resource provider mapping {profile[ports.ALLOCATION]} "
                f"for the port {port.id} with resource request {dict(port.request)} "
                f"attached to the instance {self.uuid}"
            )

    @property
    def dry_run_line(self) -> str:
        """What the stock tool prints instead of writing."""
        document = json.dumps(self.after.document())
        verb = _IMPERATIVES[self.change]
        return f"[dry-run] {verb} allocations for instance {self.uuid}: {document}"


Decision = Plan | HealProblem | Verdict
"""What is to be done for an instance."""

Result = HealedInstance | HealProblem | Verdict
"""What became of an instance."""


def allocation_problem(uuid: str, reason: object) -> HealProblem:
    """The problem of an instance whose allocations could not be read or written."""
    text = f"Failed to update allocations for consumer {uuid}. Error: {reason}"
    return HealProblem(uuid, Exit.NOT_WRITTEN, text)
