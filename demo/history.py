"""What was done to an instance: actions, their events, and the migrations that came of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from demo.world import Instance, Place

# What the API calls an action, and the events that the services note while they carry it out.
CREATE: Final = {"create": ("compute__do_build_and_run_instance",)}
FAILED_CREATE: Final = {"create": ("conductor_schedule_and_build_instances",)}
DELETE: Final = {"delete": ("compute_terminate_instance",)}
USE: Final = {
    "reboot": ("compute_reboot_instance",),
    "stop": ("compute_stop_instance",),
    "rebuild": ("rebuild_server", "compute_rebuild_instance"),
    "shelve": ("compute_shelve_instance", "compute_shelve_offload_instance"),
    "resize": ("compute_prep_resize", "compute_finish_resize"),
    "live-migration": ("compute_pre_live_migration", "compute_live_migration"),
}
# The status in which the migration of such an action ends.
MOVES: Final = {"resize": "confirmed", "live-migration": "completed"}
NO_VALID_HOST: Final = "No valid host was found. There are not enough hosts available."


def write(place: Place, instance: Instance) -> None:
    """Note the life of an instance, its actions spread evenly from its birth to its end."""
    actions = _actions(place, instance)
    steps = len(actions) - 1 if instance.gone else len(actions)
    span = (instance.gone or place.now) - instance.born
    for number, (name, events) in enumerate(actions.items()):
        moment = (instance.born + span * number / steps).replace(microsecond=0)
        _action(place, instance, name, events, moment)
        if name in MOVES:
            _migration(place, instance, name, moment)


def _actions(place: Place, instance: Instance) -> dict[str, tuple[str, ...]]:
    end = DELETE if instance.gone else {}
    if instance.host is None:
        return {**FAILED_CREATE, **end}
    use = place.dice.sample(list(USE), 1 if instance.gone else 2)
    return {**CREATE, **{name: USE[name] for name in use}, **end}


def _action(
    place: Place, instance: Instance, name: str, events: Sequence[str], moment: datetime
) -> None:
    """Nova does not mark an action as deleted, nor its events: they may be read after their
    instance is gone.
    """
    failed = instance.host is None and name == "create"
    times = {"start_time": moment, "created_at": moment, "updated_at": moment}
    action = place.cell.add(
        "instance_actions",
        instance_uuid=instance.uuid,
        action=name,
        request_id=f"req-{place.dice.uuid()}",
        project_id=instance.project,
        user_id=instance.user,
        message="Error" if failed else None,
        **times,
    )
    for event in events:
        place.cell.add(
            "instance_actions_events",
            action_id=action,
            event=event,
            host=instance.host or "ctl-01",
            result="Error" if failed else "Success",
            traceback=NO_VALID_HOST if failed else None,
            finish_time=moment,
            **times,
        )


def _migration(place: Place, instance: Instance, kind: str, moment: datetime) -> None:
    source = place.dice.choice([host for host in place.hosts if host != instance.host])
    place.cell.add(
        "migrations",
        gone=instance.gone,
        uuid=place.dice.uuid(),
        instance_uuid=instance.uuid,
        migration_type=kind,
        status=MOVES[kind],
        source_compute=source,
        source_node=source,
        dest_compute=instance.host,
        dest_node=instance.host,
        old_instance_type_id=instance.flavor.id,
        new_instance_type_id=instance.flavor.id,
        project_id=instance.project,
        user_id=instance.user,
        hidden=False,
        cross_cell_move=False,
        created_at=moment,
        updated_at=moment,
    )
