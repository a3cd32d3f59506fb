"""A campaign of SIGKILLs: whoever dies, no row is lost or doubled, nothing is left locked, and all
comes to its end.

``CELLKEEPER_CHAOS_SEED`` repeats a campaign, ``CELLKEEPER_CHAOS_KILLS`` says how long it is. A
round is repeated alone by its number: ``PYTEST_OPTIONS="-k round-17-"``. Its victims are the same
ones then; the instants are not quite.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chaos.plan import WORKS, plan_of
from tests.chaos.scene import Scene
from tests.support.command import call
from tests.support.placement import Placement, nova_conf
from tests.support.realcloud import RealCloud

SEED: Final = int(os.environ.get("CELLKEEPER_CHAOS_SEED", "1"))
KILLS: Final = int(os.environ.get("CELLKEEPER_CHAOS_KILLS", "300"))
KILLS_PER_ROUND: Final = 12
ROUNDS: Final = range(-(-KILLS // KILLS_PER_ROUND))
Looks = Callable[[str], Any]


@pytest.fixture(scope="session")
def undisturbed(
    loaded_placed_cloud: RealCloud,
    cloud_placement_server: Placement,
    tmp_path_factory: pytest.TempPathFactory,
) -> Looks:
    """What each work leaves where nothing is killed, by its name."""
    cloud = loaded_placed_cloud

    @cache
    def look(name: str) -> Any:
        cloud.restore()
        cloud_placement_server.revive()
        config = cloud.config(tmp_path_factory.mktemp("undisturbed"))
        config.write_text(config.read_text() + nova_conf(cloud_placement_server.url))
        WORKS[name].prepare(cloud)
        for line in WORKS[name].undisturbed:
            assert call(line.format(**cloud.uuids), config=config).err == ""
        return WORKS[name].look(cloud)

    return look


@pytest.mark.parametrize("number", ROUNDS, ids=[f"round-{number}-" for number in ROUNDS])
def test_whoever_is_killed_nothing_is_lost(
    number: int,
    placed_cloud: RealCloud,
    cloud_placement: Placement,
    undisturbed: Looks,
    tmp_path: Path,
) -> None:
    plan = plan_of(SEED, number, min(KILLS_PER_ROUND, KILLS - number * KILLS_PER_ROUND))
    expected = undisturbed(plan.name)
    with Scene(plan, placed_cloud, cloud_placement, tmp_path) as scene:
        try:
            scene.play(expected)
        except BaseException as error:
            error.add_note(
                f"Seed {SEED}, round {number}: {plan}. Killed so far: {'; '.join(scene.killed)}"
            )
            raise
