"""Deleted instances with all that hangs on them, made inside the server by one statement per table.

The databases need Nova's schema and nothing else. The values have the sizes of real ones.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import pymysql

Link: TypeAlias = "pymysql.Connection[Any]"
Cursor: TypeAlias = "pymysql.cursors.Cursor"

ROWS: Final = {
    "instances": 1,
    "instance_extra": 1,
    "instance_info_caches": 1,
    "instance_actions": 3,
    "instance_actions_events": 3,
    "instance_system_metadata": 16,
    "instance_metadata": 2,
    "block_device_mapping": 2,
    "virtual_interfaces": 1,
    "instance_faults": 1,
    "migrations": 1,
    "security_group_instance_association": 1,
}
"""Rows of one instance by table, parents before their children."""
ROWS_PER_INSTANCE: Final = sum(ROWS.values())
API_TABLES: Final = ("instance_mappings", "request_specs", "instance_group_member")
# Every so manyth instance is a member of a server group.
GROUPED: Final = 10

_STAMP: Final = "'2026-01-01 00:00:00' + INTERVAL i.id % 5000000 SECOND"
_DELETED: Final = f"{_STAMP} + INTERVAL 3 DAY"
_HOST: Final = "CONCAT('cmp-', LPAD(i.id % 200, 3, '0'))"
_PROJECT: Final = "MD5(i.id % 40)"
_USER: Final = "MD5(1000 + i.id % 100)"


def _uuid(of: str) -> str:
    """An SQL expression that makes the text of an expression a UUID: always the same one, in no
    order.
    """
    parts = [
        f"SUBSTR(MD5({of}), {start}, {length})"
        for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    ]
    return f"CONCAT_WS('-', {', '.join(parts)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _nova_object(name: str, version: str, data: Mapping[str, object]) -> dict[str, object]:
    return {
        "nova_object.name": name,
        "nova_object.namespace": "nova",
        "nova_object.version": version,
        "nova_object.data": data,
    }


_FLAVOR: Final = json.dumps(
    {
        "cur": _nova_object(
            "Flavor",
            "1.2",
            {
                "id": 3,
                "name": "m1.large",
                "memory_mb": 8192,
                "vcpus": 4,
                "root_gb": 80,
                "ephemeral_gb": 0,
                "flavorid": "4e6e8d1c-8d0b-4c6a-9f0b-0b8f3f3f6a55",
                "swap": 1024,
                "rxtx_factor": 1.0,
                "vcpu_weight": 0,
                "disabled": False,
                "is_public": True,
                "extra_specs": {
                    "hw:cpu_policy": "shared",
                    "hw:mem_page_size": "large",
                    "hw_rng:allowed": "true",
                    "quota:disk_total_iops_sec": "2000",
                    "quota:vif_inbound_average": "131072",
                    "quota:vif_outbound_average": "131072",
                    "quota:disk_read_bytes_sec": "209715200",
                    "quota:disk_write_bytes_sec": "209715200",
                    "trait:HW_CPU_X86_AVX2": "required",
                    "trait:STORAGE_DISK_SSD": "required",
                    "trait:COMPUTE_NET_VIRTIO_PACKED": "required",
                    "aggregate_instance_extra_specs:ssd": "true",
                },
                "description": None,
                "created_at": "2025-11-22T06:06:28Z",
                "updated_at": None,
                "deleted_at": None,
                "deleted": False,
            },
        ),
        "old": None,
        "new": None,
    }
)
_KEYPAIRS: Final = json.dumps(_nova_object("KeyPairList", "1.3", {"objects": []}))
_NETWORK_INFO: Final = json.dumps(
    [
        {
            "id": "b218a6f4-7a27-4271-9630-4aa64247bd61",
            "address": "fa:16:3e:00:00:03",
            "network": {
                "id": "3cb9bc59-5699-4588-a4b1-b87f96708bc6",
                "bridge": "br-int",
                "label": "private",
                "subnets": [
                    {
                        "cidr": "192.168.0.0/20",
                        "dns": [],
                        "gateway": {
                            "address": "192.168.0.1",
                            "type": "gateway",
                            "version": 4,
                            "meta": {},
                        },
                        "ips": [
                            {
                                "address": "192.168.3.6",
                                "type": "fixed",
                                "version": 4,
                                "floating_ips": [],
                            }
                        ],
                        "routes": [],
                        "version": 4,
                    }
                ],
                "meta": {
                    "injected": False,
                    "mtu": 1450,
                    "physical_network": None,
                    "tunneled": True,
                },
            },
            "type": "ovs",
            "devname": "tapb218a6f4-7a",
            "ovs_interfaceid": "b218a6f4-7a27-4271-9630-4aa64247bd61",
            "active": True,
            "vnic_type": "normal",
            "profile": {},
        }
    ]
)
_TRACEBACK: Final = "Traceback (most recent call last):\n" + "\n".join(
    f'  File "/usr/lib/python3/dist-packages/nova/compute/manager.py", line {line}, in decorated_function\n'
    "    return function(self, context, *args, **kwargs)"
    for line in range(2000, 2008)
)
# A request spec repeats the flavor, the image and the instance's requests: about 4 KiB.
_SPEC: Final = json.dumps(
    _nova_object(
        "RequestSpec",
        "1.15",
        {
            "flavor": json.loads(_FLAVOR),
            "image": {"properties": {f"hw_property_{n}": "x" * 60 for n in range(30)}},
        },
    )
)

_TIMES: Final = {"created_at": _STAMP, "updated_at": _DELETED}
_GONE: Final = {"deleted_at": f"IF(i.deleted, {_DELETED}, NULL)", "deleted": "i.deleted"}
_OF_INSTANCE: Final = {"instance_uuid": "i.uuid"}
_PORT: Final = _uuid("CONCAT('port', i.uuid)")

# By table, the SQL expressions of its columns over i, the instance, and n, the number of the row
# from 1 on.
_CHILDREN: Final[dict[str, dict[str, str]]] = {
    "instance_extra": {
        "pci_requests": "'[]'",
        "flavor": _quoted(_FLAVOR),
        "keypairs": _quoted(_KEYPAIRS),
    },
    "instance_info_caches": {"network_info": _quoted(_NETWORK_INFO)},
    "instance_actions": {
        "action": "ELT(n.seq, 'create', 'stop', 'delete')",
        "request_id": f"CONCAT('req-', {_uuid('CONCAT(i.uuid, n.seq)')})",
        "user_id": _USER,
        "project_id": _PROJECT,
        "start_time": _STAMP,
        "finish_time": _STAMP,
    },
    "instance_system_metadata": {
        "`key`": "CONCAT('image_property_', n.seq)",
        "value": "LEFT(REPEAT(MD5(n.seq), 2), 8 + 3 * n.seq)",
    },
    "instance_metadata": {"`key`": "ELT(n.seq, 'role', 'owner')", "value": _HOST},
    "block_device_mapping": {
        "device_name": "ELT(n.seq, '/dev/vda', '/dev/vdb')",
        "delete_on_termination": "1",
        "volume_id": _uuid("CONCAT('volume', i.uuid, n.seq)"),
        "volume_size": "40",
        "connection_info": 'CONCAT(\'{"driver_volume_type": "rbd", "data": "\', REPEAT(MD5(i.uuid), 12), \'"}\')',
        "source_type": "'volume'",
        "destination_type": "'volume'",
        "device_type": "'disk'",
        "disk_bus": "'virtio'",
        "boot_index": "n.seq - 1",
        "attachment_id": _uuid("CONCAT('attachment', i.uuid, n.seq)"),
        "uuid": _uuid("CONCAT('bdm', i.uuid, n.seq)"),
    },
    "virtual_interfaces": {
        "address": f"CONCAT('fa:16:3e:00:00:01/', {_PORT})",
        "uuid": _PORT,
    },
    "instance_faults": {
        "code": "500",
        "message": "'Build of instance aborted: the volume did not become available'",
        "details": _quoted(_TRACEBACK),
        "host": _HOST,
    },
    "migrations": {
        "source_compute": _HOST,
        "dest_compute": "'cmp-007'",
        "dest_host": "'192.168.0.7'",
        "status": "'confirmed'",
        "old_instance_type_id": "3",
        "new_instance_type_id": "3",
        "source_node": _HOST,
        "dest_node": "'cmp-007'",
        "migration_type": "'migration'",
        "hidden": "0",
        "uuid": _uuid("CONCAT('migration', i.uuid)"),
        "user_id": _USER,
        "project_id": _PROJECT,
    },
    "security_group_instance_association": {"security_group_id": "1"},
}
_INSTANCE: Final = {
    "id": "i.id",
    "uuid": "i.uuid",
    "user_id": _USER,
    "project_id": _PROJECT,
    "image_ref": "MD5(i.id % 12)",
    "power_state": "1",
    "vm_state": "IF(i.deleted, 'deleted', 'active')",
    "memory_mb": "8192",
    "vcpus": "4",
    "hostname": "CONCAT('web-', i.id)",
    "host": _HOST,
    "reservation_id": "CONCAT('r-', LEFT(i.uuid, 8))",
    "launched_at": _STAMP,
    "terminated_at": f"IF(i.deleted, {_DELETED}, NULL)",
    "display_name": "CONCAT('web-', i.id)",
    "availability_zone": "'az1'",
    "launched_on": _HOST,
    "instance_type_id": "3",
    "root_device_name": "'/dev/vda'",
    "root_gb": "80",
    "node": _HOST,
    "cleaned": "i.deleted <> 0",
    "hidden": "0",
    "compute_id": "1 + i.id % 200",
}
_EVENT: Final = {
    "event": "'compute__do_build_and_run_instance'",
    "action_id": "a.id",
    "start_time": "a.start_time",
    "finish_time": "a.finish_time",
    "result": "'Success'",
    "host": _HOST,
}


def fill_cell(
    link: Link, deleted: int, live: int = 0, salt: str = "", *, analyzed: bool = True
) -> None:
    """Make instances in an empty cell database.

    :param deleted: how many are deleted
    :param live: how many are not; they lie among the others
    :param salt: other instances than with another salt
    :param analyzed: whether the server's statistics are made anew, which of few rows takes most of
        the time
    """
    total = deleted + live
    mark = f"IF(seq * {live} DIV {total} = (seq - 1) * {live} DIV {total}, seq, 0)"
    instance = (
        f"(SELECT seq AS id, {mark} AS deleted, {_numbered_uuid('seq', salt)} AS uuid FROM "
        f"seq_1_to_{total}) i"
    )
    with _session(link) as cursor:
        cursor.execute(
            "INSERT INTO security_groups (id, name, project_id, deleted) VALUES (1, 'default', "
            "'p', 0)"
        )
        cursor.execute(_insert("instances", _TIMES | _GONE | _INSTANCE, instance))
        for table, values in _CHILDREN.items():
            rows = f"instances i JOIN seq_1_to_{ROWS[table]} n"
            cursor.execute(
                _insert(table, _TIMES | _GONE | _OF_INSTANCE | values, rows, "ORDER BY i.id, n.seq")
            )
        events = "instance_actions a JOIN instances i ON i.uuid = a.instance_uuid"
        cursor.execute(
            _insert("instance_actions_events", _TIMES | _GONE | _EVENT, events, "ORDER BY a.id")
        )
        if analyzed:
            cursor.execute(f"ANALYZE TABLE {', '.join(ROWS)}")
    link.commit()


def fill_api(
    link: Link, instances: int, cell_id: int, salt: str = "", *, analyzed: bool = True
) -> None:
    """Make the API rows of the instances that ``fill_cell`` makes with the same salt, all deleted.

    :param cell_id: ``cell_mappings.id`` of their cell
    :param analyzed: as there
    """
    instance = (
        f"(SELECT seq AS id, {_numbered_uuid('seq', salt)} AS uuid FROM seq_1_to_{instances}) i"
    )
    mapping = {
        "cell_id": str(cell_id),
        "project_id": _PROJECT,
        "user_id": _USER,
        "queued_for_delete": "1",
    }
    with _session(link) as cursor:
        cursor.execute(_insert("instance_mappings", _TIMES | _OF_INSTANCE | mapping, instance))
        cursor.execute(
            _insert("request_specs", _TIMES | _OF_INSTANCE | {"spec": _quoted(_SPEC)}, instance)
        )
        cursor.execute(
            "INSERT IGNORE INTO instance_groups (id, user_id, project_id, uuid) VALUES (1, 'u', "
            "'p', 'g')"
        )
        member = _TIMES | _OF_INSTANCE | {"group_id": "1"}
        cursor.execute(
            _insert("instance_group_member", member, instance, f"WHERE i.id % {GROUPED} = 0")
        )
        if analyzed:
            cursor.execute(f"ANALYZE TABLE {', '.join(API_TABLES)}")
    link.commit()


def _numbered_uuid(number: str, salt: str) -> str:
    return _uuid(f"CONCAT('{salt}', {number})")


def _insert(table: str, values: Mapping[str, str], source: str, rest: str = "") -> str:
    expressions = ", ".join(values.values())
    return (
        f"INSERT INTO {table} ({', '.join(values)}) SELECT STRAIGHT_JOIN {expressions} FROM "
        f"{source} {rest}"
    )


def _session(link: Link) -> Cursor:
    cursor: Cursor = link.cursor()
    cursor.execute("SET SESSION foreign_key_checks = 0, sql_mode = ''")
    return cursor
