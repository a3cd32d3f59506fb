"""Instances with the rows that Nova keeps of each, in its cell and in the API database."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

from demo import history
from demo.world import Flavor, Instance, Place

FLAVORS: Final = (
    Flavor(1, "m1.small", 1, 2048, 20),
    Flavor(2, "m1.medium", 2, 4096, 40),
    Flavor(3, "m1.large", 4, 8192, 80),
)
SYSTEMS: Final = ("cirros", "debian", "ubuntu", "windows")
METADATA: Final = {"role": "node", "owner": "team-a", "backup": "weekly"}
TAGS: Final = ("blue", "env=dev", "tier1")
GROUPS: Final = ("anti-affinity", "affinity", "soft-affinity")


def populate(place: Place, count: int) -> list[Instance]:
    """Fill a cell with instances, half of them deleted during the last 200 days.

    :returns: in the order of their birth
    """
    deleted = set(place.dice.sample(range(count), (count + 1) // 2))
    instances = [_instance(place, number, deleted=number in deleted) for number in range(count)]
    instances.sort(key=lambda instance: instance.born)
    for instance in instances:
        _write(place, instance)
    return instances


def block(place: Place, instances: Sequence[Instance]) -> None:
    """Leave a share with the first deleted instance, as Nova does: its foreign key keeps the
    instance in its table.
    """
    blocked = next((instance for instance in instances if instance.gone), None)
    if blocked:
        place.cell.add(
            "share_mapping",
            uuid=place.dice.uuid(),
            instance_uuid=blocked.uuid,
            share_id=place.dice.uuid(),
            status="inactive",
            tag="backup",
            export_location="192.0.2.50:/mnt/backup",
            share_proto="NFS",
            created_at=blocked.born,
        )


def _instance(place: Place, number: int, *, deleted: bool) -> Instance:
    dice = place.dice
    gone = dice.before(place.now, 1, 200) if deleted else None
    hosts = [*place.hosts, place.retired_host] if deleted else place.hosts
    project = dice.choice(list(place.projects))
    return Instance(
        uuid=dice.uuid(),
        name=f"c{place.number}-vm-{number:03}",
        project=project,
        user=place.projects[project],
        flavor=dice.choice(FLAVORS),
        system=dice.choice(SYSTEMS),
        image=dice.uuid(),
        host=dice.choice(hosts) if place.number else None,
        born=dice.before(gone or place.now, 0.1, 90),
        gone=gone,
    )


def _write(place: Place, instance: Instance) -> None:
    _own_row(place, instance)
    _system_metadata(place, instance)
    _metadata(place, instance)
    _disks(place, instance)
    _port(place, instance)
    _records(place, instance)
    _fault(place, instance)
    history.write(place, instance)
    _api_rows(place, instance)


def _own_row(place: Place, instance: Instance) -> None:
    alive_as = "active" if instance.host else "error"
    built = instance.born + timedelta(minutes=1) if instance.host else None
    flags = ("locked", "auto_disk_config", "shutdown_terminate", "disable_terminate", "hidden")
    place.cell.add(
        "instances",
        gone=instance.gone,
        uuid=instance.uuid,
        display_name=instance.name,
        hostname=instance.name,
        project_id=instance.project,
        user_id=instance.user,
        host=instance.host,
        node=instance.host,
        launched_on=instance.host,
        availability_zone=f"az{place.number}" if instance.host else None,
        image_ref=instance.image,
        reservation_id=f"r-{instance.uuid[:8]}",
        vm_state="deleted" if instance.gone else alive_as,
        power_state=int(not instance.gone and alive_as == "active"),
        instance_type_id=instance.flavor.id,
        vcpus=instance.flavor.vcpus,
        memory_mb=instance.flavor.memory,
        root_gb=instance.flavor.disk,
        ephemeral_gb=0,
        launch_index=0,
        progress=0,
        cleaned=int(instance.gone is not None),
        architecture="x86_64",
        root_device_name="/dev/vda" if instance.host else None,
        created_at=instance.born,
        updated_at=instance.gone or built or instance.born,
        launched_at=built,
        terminated_at=instance.gone,
        **dict.fromkeys(flags, False),
    )


def _child(place: Place, instance: Instance, table: str, **values: Any) -> None:
    """Note a row that Nova marks as deleted together with its instance."""
    place.cell.add(
        table, gone=instance.gone, created_at=instance.born, instance_uuid=instance.uuid, **values
    )


def _system_metadata(place: Place, instance: Instance) -> None:
    pairs = {
        "image_os_distro": instance.system,
        "image_hw_disk_bus": "virtio",
        "image_hw_machine_type": "pc-q35-8.2",
        "image_architecture": "x86_64",
        "image_min_ram": "0",
        "image_min_disk": str(instance.flavor.disk),
        "image_disk_format": "raw",
        "image_container_format": "bare",
        "image_base_image_ref": instance.image,
        "owner_project_name": "demo",
        "boot_roles": "reader,member",
    }
    for key, value in pairs.items():
        _child(place, instance, "instance_system_metadata", key=key, value=value)


def _metadata(place: Place, instance: Instance) -> None:
    for key in place.dice.sample(list(METADATA), place.dice.randint(2, 3)):
        _child(place, instance, "instance_metadata", key=key, value=METADATA[key])
    # Tags are gone for good when an instance is deleted: they have no mark.
    if not instance.gone:
        place.cell.add("tags", resource_id=instance.uuid, tag=place.dice.choice(TAGS))


def _disks(place: Place, instance: Instance) -> None:
    disk: dict[str, Any] = {"device_type": "disk", "no_device": False}
    root = {
        "source_type": "image",
        "destination_type": "local",
        "image_id": instance.image,
        "boot_index": 0,
        "delete_on_termination": True,
        "device_name": "/dev/vda" if instance.host else None,
    }
    _child(place, instance, "block_device_mapping", uuid=place.dice.uuid(), **disk, **root)
    if instance.host and place.dice.random() < 0.5:
        volume = {
            "source_type": "volume",
            "destination_type": "volume",
            "volume_id": place.dice.uuid(),
            "attachment_id": place.dice.uuid(),
            "volume_size": 10,
            "boot_index": -1,
            "delete_on_termination": False,
            "device_name": "/dev/vdb",
        }
        _child(place, instance, "block_device_mapping", uuid=place.dice.uuid(), **disk, **volume)


def _port(place: Place, instance: Instance) -> None:
    """An instance's port, as Nova notes it for itself and caches it from Neutron."""
    ports = []
    if instance.host:
        port, mac = place.dice.uuid(), place.dice.mac()
        _child(place, instance, "virtual_interfaces", address=f"{mac}/{port}", uuid=port)
        ports = [
            {
                "id": port,
                "address": mac,
                "type": "ovs",
                "devname": f"tap{port[:11]}",
                "active": True,
            }
        ]
    _child(place, instance, "instance_info_caches", network_info=json.dumps(ports))


def _records(place: Place, instance: Instance) -> None:
    flavor = {"cur": _nova_object("Flavor", asdict(instance.flavor)), "old": None, "new": None}
    _child(place, instance, "instance_extra", flavor=json.dumps(flavor), pci_requests="[]")
    place.cell.add(
        "instance_id_mappings", gone=instance.gone, created_at=instance.born, uuid=instance.uuid
    )


def _fault(place: Place, instance: Instance) -> None:
    if instance.host is None:
        _child(place, instance, "instance_faults", code=500, message=history.NO_VALID_HOST)
    elif place.dice.random() < 0.15:
        _child(
            place, instance, "instance_faults", code=500, message="Exception", host=instance.host
        )


def _api_rows(place: Place, instance: Instance) -> None:
    common: dict[str, Any] = {"instance_uuid": instance.uuid, "created_at": instance.born}
    place.api.add(
        "instance_mappings",
        cell_id=place.mapping,
        project_id=instance.project,
        user_id=instance.user,
        queued_for_delete=instance.gone is not None,
        updated_at=instance.gone,
        **common,
    )
    flavor = _nova_object("Flavor", asdict(instance.flavor))
    spec = {"project_id": instance.project, "user_id": instance.user, "flavor": flavor}
    place.api.add("request_specs", spec=json.dumps(_nova_object("RequestSpec", spec)), **common)
    if place.dice.random() < 0.2:
        place.api.add(
            "instance_group_member", group_id=place.dice.randint(1, len(GROUPS)), **common
        )


def _nova_object(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"nova_object.name": name, "nova_object.namespace": "nova", "nova_object.data": data}
