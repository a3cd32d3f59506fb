"""Made-up cells for hypothesis: any mix of what is deleted, what hangs on it, what is in its way,
who knows of it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from hypothesis import strategies as st

from tests.support.forest import SHADOW, TABLES, Key

OLD: Final = datetime(2026, 1, 10, 8, 30)
NEW: Final = datetime(2026, 6, 20, 17, 45, 30)
# Before everything, between, and after everything; the comparison is strict.
DATES: Final = (None, OLD, datetime(2026, 3, 1), NEW, datetime(2026, 12, 1))
# The mapping of this cell, a second one that names the same database, and another cell's.
HERE, TWIN_OF_HERE, ELSEWHERE = 2, 3, 4


class Mark(Enum):
    """What a row says of its own deletion: ``deleted`` (True: its own id) and ``deleted_at``."""

    LIVE = (0, None)
    RESTORED = (0, OLD)
    OLD = (True, OLD)
    NEW = (True, NEW)
    TIMELESS = (True, None)
    UNKNOWN = (None, None)


class Mapped(Enum):
    """The ``cell_id`` of an instance mapping."""

    HERE = HERE
    TWIN_OF_HERE = TWIN_OF_HERE
    ELSEWHERE = ELSEWHERE
    UNSCHEDULED = None
    NOWHERE = "there is no mapping"


@dataclass(frozen=True)
class Known:
    """What the API database knows of an instance.

    :ivar members: how many server groups it is in
    """

    mapped: Mapped
    queued_for_delete: bool | None
    spec: bool
    members: int


@dataclass(frozen=True)
class Instance:
    """:ivar children: table, own mark, and the marks of what hangs on the child
    :ivar referrer: a table that stays and refers to the instance
    :ivar was_here: whether it was archived from this cell once before, under another id, and came
        back
    """

    mark: Mark
    known: Known
    children: list[tuple[str, Mark, list[Mark]]]
    referrer: str | None
    was_here: bool


@dataclass(frozen=True)
class Cell:
    """:ivar strangers: what the API database knows of instances that are not in the cell, and
    whether they are in its shadow table
    :ivar groups: security groups
    :ivar rules: the parent group, the other group, own mark; groups by their number, modulo how
        many there are
    :ivar members: group, instance, own mark
    :ivar hosts: compute nodes with their devices
    :ivar task_log: own mark, and time of the last update
    :ivar others: rows on which nothing hangs
    :ivar in_the_way: shadow rows with the id of a row, by its number modulo how many there are;
        whether they are identical to it
    :ivar refused: rows that the database does not let go; by the same number
    """

    instances: list[Instance]
    strangers: list[tuple[Known, bool]]
    groups: list[Mark]
    rules: list[tuple[int | None, int | None, Mark]]
    members: list[tuple[int, int, Mark]]
    hosts: list[tuple[Mark, list[Mark]]]
    task_log: list[tuple[Mark, datetime | None]]
    others: list[tuple[str, Mark]]
    in_the_way: list[tuple[int, bool]]
    refused: list[int]


CHILDREN: Final = (
    "block_device_mapping",
    "instance_actions",
    "instance_extra",
    "instance_faults",
    "instance_info_caches",
    "instance_metadata",
    "instance_system_metadata",
    "migrations",
    "virtual_interfaces",
)
SIZES_OF_A_HOST: Final = (
    *("vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used"),
    "hypervisor_version",
)
MARKS: Final = st.sampled_from(
    [Mark.LIVE, Mark.OLD, Mark.NEW, Mark.OLD, Mark.TIMELESS, Mark.RESTORED, Mark.UNKNOWN]
)
GONE: Final = st.sampled_from(
    [Mark.OLD, Mark.NEW, Mark.LIVE, Mark.OLD, Mark.NEW, Mark.TIMELESS, Mark.RESTORED]
)
NUMBERS: Final = st.integers(0, 30)
KNOWN: Final = st.builds(
    Known,
    st.sampled_from([Mapped.HERE, Mapped.HERE, Mapped.HERE, *Mapped]),
    st.sampled_from([True, True, False, None]),
    st.sampled_from([True, True, False]),
    st.integers(0, 2),
)
CHILD: Final = st.tuples(st.sampled_from(CHILDREN), MARKS, st.lists(MARKS, max_size=3))


def cells(referrers: Iterable[str], refusals: int) -> st.SearchStrategy[Cell]:
    """Any cell.

    :param referrers: the tables that stay, with a foreign key to instances
    :param refusals: how many rows at most the database does not let go
    """
    obstacle = st.sampled_from([None, None, None, None, *referrers])
    was_here = st.sampled_from([False, False, False, True])
    instance = st.builds(Instance, GONE, KNOWN, st.lists(CHILD, max_size=6), obstacle, was_here)
    return st.builds(
        Cell,
        instances=st.lists(instance, min_size=1, max_size=8),
        strangers=st.lists(st.tuples(KNOWN, st.booleans()), max_size=3),
        groups=st.lists(GONE, max_size=4),
        rules=st.lists(st.tuples(st.none() | NUMBERS, st.none() | NUMBERS, MARKS), max_size=5),
        members=st.lists(st.tuples(NUMBERS, NUMBERS, MARKS), max_size=4),
        hosts=st.lists(st.tuples(GONE, st.lists(MARKS, max_size=3)), max_size=2),
        task_log=st.lists(st.tuples(MARKS, st.sampled_from([None, OLD, NEW])), max_size=3),
        others=st.lists(
            st.tuples(st.sampled_from(["instance_id_mappings", "services"]), MARKS), max_size=4
        ),
        in_the_way=st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=2),
        refused=st.lists(st.integers(0, 200), max_size=refusals),
    )


WELL_KNOWN: Final = Known(Mapped.HERE, True, spec=True, members=1)
# One of each kind, small enough to be archived again and again.
RICH: Final = Cell(
    instances=[
        Instance(
            Mark.OLD,
            WELL_KNOWN,
            [
                ("instance_actions", Mark.LIVE, [Mark.LIVE, Mark.LIVE]),
                ("instance_actions", Mark.LIVE, [Mark.LIVE]),
                ("instance_metadata", Mark.OLD, []),
                ("migrations", Mark.NEW, []),
            ],
            None,
            was_here=True,
        ),
        Instance(Mark.LIVE, WELL_KNOWN, [("instance_faults", Mark.OLD, [])], None, was_here=True),
        Instance(
            Mark.OLD,
            Known(Mapped.ELSEWHERE, False, True, 1),
            [("instance_extra", Mark.OLD, [])],
            None,
            False,
        ),
        Instance(Mark.NEW, WELL_KNOWN, [("instance_extra", Mark.NEW, [])], "share_mapping", False),
        Instance(Mark.NEW, Known(Mapped.UNSCHEDULED, None, True, 2), [], None, False),
        Instance(
            Mark.OLD,
            Known(Mapped.TWIN_OF_HERE, True, True, 0),
            [("migrations", Mark.OLD, [])],
            None,
            False,
        ),
    ],
    strangers=[
        (WELL_KNOWN, True),
        (Known(Mapped.HERE, True, True, 0), False),
        (Known(Mapped.HERE, False, True, 0), True),
        (Known(Mapped.NOWHERE, None, True, 0), False),
    ],
    groups=[Mark.OLD, Mark.NEW, Mark.LIVE, Mark.OLD, Mark.OLD, Mark.OLD],
    rules=[
        (1, None, Mark.OLD),
        (2, 3, Mark.LIVE),
        (2, None, Mark.OLD),
        (4, 4, Mark.OLD),
        (3, 4, Mark.OLD),
    ],
    members=[(3, 0, Mark.OLD), (4, 1, Mark.OLD)],
    hosts=[(Mark.OLD, [Mark.OLD, Mark.LIVE])],
    task_log=[(Mark.LIVE, OLD), (Mark.OLD, None)],
    others=[("instance_id_mappings", Mark.OLD)],
    # In the way of an instance; a twin of another; in the way of a rule that hangs on two groups.
    in_the_way=[(6, False), (7, True), (32, False)],
    # A group behind one that can move, and in front of another.
    refused=[9],
)


@dataclass
class Sheet:
    """The rows of a made-up cell and of its API database, by table; and which of them the database
    does not let go.
    """

    cell: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    api: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    refused: frozenset[Key] = frozenset()


def sheet(cell: Cell) -> Sheet:
    """Write a made-up cell down as rows."""
    return _Scribe(cell).sheet


class _Scribe:
    def __init__(self, cell: Cell) -> None:
        self.sheet = Sheet()
        self._uuids = 0
        for mapping in (HERE, TWIN_OF_HERE, ELSEWHERE):
            self.sheet.api["cell_mappings"].append({"id": mapping, "uuid": self._uuid()})
        self.sheet.api["instance_groups"].append({"id": 1, "uuid": self._uuid()})
        uuids = [self._instance(instance) for instance in cell.instances]
        groups = [
            self._row("security_groups", mark, name=f"group{n}")
            for n, mark in enumerate(cell.groups)
        ]
        self._groups(cell, groups, uuids)
        self._hosts(cell)
        self._others(cell)
        for known, archived in cell.strangers:
            uuid = self._uuid()
            self._known(uuid, known)
            if archived:
                self._archived(uuid)
        rows = [(table, row) for table in TABLES for row in self.sheet.cell[table]]
        for number, identical in cell.in_the_way:
            self._put_in_the_way(*rows[number % len(rows)], identical=identical)
        refused = [rows[number % len(rows)] for number in cell.refused]
        self.sheet.refused = frozenset((table, row["id"]) for table, row in refused)

    def _instance(self, instance: Instance) -> str:
        uuid = self._uuid()
        self._row("instances", instance.mark, uuid=uuid)
        for table, mark, below in instance.children:
            if table == "instance_info_caches" and any(
                row["instance_uuid"] == uuid for row in self.sheet.cell[table]
            ):
                continue
            child = self._row(table, mark, instance_uuid=uuid, **self._needed(table))
            if table == "instance_actions":
                for event in below:
                    self._row("instance_actions_events", event, action_id=child)
        if instance.referrer:
            rows = self.sheet.cell[instance.referrer]
            rows.append({"id": len(rows) + 1, "instance_uuid": uuid})
        if instance.was_here:
            self._archived(uuid)
        self._known(uuid, instance.known)
        return uuid

    def _archived(self, uuid: str) -> None:
        rows = self.sheet.cell["shadow_instances"]
        rows.append(self._marked(10_000 + len(rows), Mark.OLD, uuid=uuid))

    def _needed(self, table: str) -> dict[str, Any]:
        if table == "instance_faults":
            return {"code": 500}
        if table == "instance_system_metadata":
            return {"key": "image_base_image_ref", "value": self._uuid()}
        if table == "virtual_interfaces":
            return {"address": self._uuid()}
        return {}

    def _groups(self, cell: Cell, groups: list[int], uuids: list[str]) -> None:
        for parent, other, mark in cell.rules if groups else ():
            named = [None if n is None else groups[n % len(groups)] for n in (parent, other)]
            self._row("security_group_rules", mark, parent_group_id=named[0], group_id=named[1])
        for group, instance, mark in cell.members if groups and uuids else ():
            self._row(
                "security_group_instance_association",
                mark,
                security_group_id=groups[group % len(groups)],
                instance_uuid=uuids[instance % len(uuids)],
            )

    def _hosts(self, cell: Cell) -> None:
        for mark, devices in cell.hosts:
            node = self._row(
                "compute_nodes",
                mark,
                hypervisor_type="QEMU",
                cpu_info="{}",
                **dict.fromkeys(SIZES_OF_A_HOST, 1),
            )
            for device in devices:
                texts = dict.fromkeys(
                    ("product_id", "vendor_id", "dev_type", "label", "status"), "x"
                )
                # The column may not be NULL.
                known = Mark.LIVE if device is Mark.UNKNOWN else device
                self._row(
                    "pci_devices", known, compute_node_id=node, address=self._uuid()[-12:], **texts
                )

    def _others(self, cell: Cell) -> None:
        for mark, updated in cell.task_log:
            period = dict.fromkeys(("period_beginning", "period_ending"), OLD)
            texts = {"task_name": self._uuid(), **dict.fromkeys(("state", "host", "message"), "x")}
            self._row("task_log", mark, updated_at=updated, **period, **texts)
        for table, mark in cell.others:
            self._row(
                table,
                mark,
                **({"report_count": 1} if table == "services" else {"uuid": self._uuid()}),
            )

    def _known(self, uuid: str, known: Known) -> None:
        if known.mapped is not Mapped.NOWHERE:
            self._api("instance_mappings", uuid, cell_id=known.mapped.value, project_id="p",
                      queued_for_delete=known.queued_for_delete)  # fmt: skip
        if known.spec:
            self._api("request_specs", uuid, spec="{}")
        for _ in range(known.members):
            self._api("instance_group_member", uuid, group_id=1)

    def _put_in_the_way(self, table: str, row: dict[str, Any], *, identical: bool) -> None:
        shadows = self.sheet.cell[SHADOW + table]
        if all(shadow["id"] != row["id"] for shadow in shadows):
            shadows.append(row if identical else row | {"created_at": NEW, **self._other_uuid(row)})

    def _other_uuid(self, row: dict[str, Any]) -> dict[str, str]:
        return {"uuid": self._uuid()} if "uuid" in row else {}

    def _row(self, table: str, mark: Mark, **values: Any) -> int:
        rows = self.sheet.cell[table]
        # No two tables share an id: a statement that takes one for the other's finds nothing.
        number = 100 * (TABLES.index(table) + 1) + len(rows)
        rows.append(self._marked(number, mark, **values))
        return number

    def _marked(self, number: int, mark: Mark, **values: Any) -> dict[str, Any]:
        deleted, deleted_at = mark.value
        marks = {"deleted": number if deleted else deleted, "deleted_at": deleted_at}
        return {"id": number, "created_at": OLD, **marks, **values}

    def _api(self, table: str, uuid: str, **values: Any) -> None:
        rows = self.sheet.api[table]
        rows.append({"id": len(rows) + 1, "instance_uuid": uuid, **values})

    def _uuid(self) -> str:
        self._uuids += 1
        return str(UUID(int=self._uuids))
