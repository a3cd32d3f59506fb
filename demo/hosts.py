"""What a cell has besides instances: services, compute nodes, devices, security groups and a log of
periodic tasks.
"""

from datetime import datetime, timedelta
from typing import Final

from demo.world import Place

MONTHS: Final = 6
SERVICE_VERSION: Final = 70
AGE: Final = timedelta(days=400)


def furnish(place: Place) -> None:
    """Fill a cell with all that instances need."""
    if place.number == 0:
        for binary in ("nova-scheduler", "nova-conductor"):
            _service(place, binary, "ctl-01", None)
        return
    _service(place, "nova-conductor", f"cond-{place.name}", None)
    for host in place.hosts:
        _compute_host(place, host, None)
        place.api.add("host_mappings", cell_id=place.mapping, host=host, created_at=place.now - AGE)
        _task_log(place, host)
    _compute_host(place, place.retired_host, place.dice.before(place.now, 100, 150))
    _security_groups(place)


def _compute_host(place: Place, host: str, gone: datetime | None) -> None:
    service = _service(place, "nova-compute", host, gone)
    node = _compute_node(place, host, service, gone)
    for function in range(2):
        _device(place, node, f"0000:01:00.{function}", gone)


def _service(place: Place, binary: str, host: str, gone: datetime | None) -> int:
    return place.cell.add(
        "services",
        gone=gone,
        uuid=place.dice.uuid(),
        host=host,
        binary=binary,
        topic=binary.removeprefix("nova-"),
        report_count=place.dice.randrange(10_000, 900_000),
        version=SERVICE_VERSION,
        disabled=gone is not None,
        forced_down=False,
        last_seen_up=gone or place.now,
        created_at=place.now - AGE,
        updated_at=gone or place.now,
    )


def _compute_node(place: Place, host: str, service: int, gone: datetime | None) -> int:
    return place.cell.add(
        "compute_nodes",
        gone=gone,
        uuid=place.dice.uuid(),
        service_id=service,
        host=host,
        hypervisor_hostname=host,
        hypervisor_type="QEMU",
        hypervisor_version=8002002,
        cpu_info='{"arch": "x86_64", "vendor": "Intel"}',
        host_ip=f"192.0.2.{service}",
        vcpus=64,
        memory_mb=524_288,
        local_gb=3_600,
        vcpus_used=place.dice.randrange(64),
        memory_mb_used=place.dice.randrange(512, 262_144),
        local_gb_used=place.dice.randrange(1_800),
        cpu_allocation_ratio=4.0,
        ram_allocation_ratio=1.0,
        disk_allocation_ratio=1.0,
        mapped=1,
        created_at=place.now - AGE,
        updated_at=gone or place.now,
    )


def _device(place: Place, node: int, address: str, gone: datetime | None) -> None:
    place.cell.add(
        "pci_devices",
        gone=gone,
        uuid=place.dice.uuid(),
        compute_node_id=node,
        address=address,
        vendor_id="8086",
        product_id="1528",
        dev_type="type-PF",
        label="label_8086_1528",
        status="removed" if gone else "available",
        extra_info="{}",
        numa_node=0,
        created_at=place.now - AGE,
    )


def _task_log(place: Place, host: str) -> None:
    """One entry for each of the last months, as the audit of usage leaves them. Nova never marks
    them as deleted.
    """
    end = place.now.replace(day=1, hour=0, minute=0, second=0)
    for _ in range(MONTHS):
        begin = (end - timedelta(days=1)).replace(day=1)
        place.cell.add(
            "task_log",
            task_name="instance_usage_audit",
            state="DONE",
            host=host,
            period_beginning=begin,
            period_ending=end,
            message=f"Instance usage audit ran for host {host}, 12 instances in 0.9 seconds.",
            task_items=12,
            errors=0,
            created_at=end + timedelta(minutes=10),
            updated_at=end + timedelta(minutes=11),
        )
        end = begin


def _security_groups(place: Place) -> None:
    """The default group of each project, and one of the days of nova-network that was deleted with
    its rules.
    """
    for project in place.projects:
        _security_group(place, "default", project, None)
    gone = place.dice.before(place.now, 150, 200)
    web = _security_group(place, "web", next(iter(place.projects)), gone)
    for port, cidr, group in ((443, "0.0.0.0/0", None), (9100, None, web)):
        place.cell.add(
            "security_group_rules",
            gone=gone,
            parent_group_id=web,
            group_id=group,
            protocol="tcp",
            from_port=port,
            to_port=port,
            cidr=cidr,
            created_at=place.now - AGE,
        )


def _security_group(place: Place, name: str, project: str, gone: datetime | None) -> int:
    return place.cell.add(
        "security_groups",
        gone=gone,
        name=name,
        description=name,
        project_id=project,
        user_id=place.projects[project],
        created_at=place.now - AGE,
    )
