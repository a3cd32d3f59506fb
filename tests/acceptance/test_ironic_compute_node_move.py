"""``db ironic_compute_node_move``: moves a node with its instance, or says why not and changes
nothing.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.support.command import call
from tests.support.realcloud import RealCloud

NODE: Final = "SELECT uuid FROM compute_nodes WHERE host = 'cmp-c1-01' AND deleted = 0"
DOWN: Final = (
    "UPDATE services SET forced_down = 1 WHERE host = 'cmp-c1-01' AND `binary` = 'nova-compute'"
)
ONE_INSTANCE: Final = (
    "UPDATE instances SET deleted = id WHERE host = 'cmp-c1-01' AND deleted = 0 AND id > "
    "(SELECT id FROM (SELECT MIN(id) id FROM instances WHERE host = 'cmp-c1-01' AND deleted = 0) "
    "first)"
)


def move(config: Path, node: str, host: str = "cmp-c1-02") -> tuple[int, str, str]:
    ended = call(
        f"db ironic_compute_node_move --ironic-node-uuid {node} --destination-host {host}",
        config=config,
    )
    return ended.code, ended.out, ended.err


def test_a_node_moves_with_its_instance(realcloud: RealCloud, config: Path) -> None:
    cell = realcloud.cell1
    for statement in (DOWN, ONE_INSTANCE):
        realcloud.rows(cell, statement)
    [(node,)] = realcloud.rows(cell, NODE)
    live = "SELECT uuid, node FROM instances WHERE deleted = 0 AND host = '{}' ORDER BY id"
    [instance] = realcloud.rows(cell, live.format("cmp-c1-01"))
    assert move(config, node) == (0, "", "")
    assert realcloud.rows(
        cell,
        "SELECT n.host, s.host, n.updated_at IS NULL FROM compute_nodes n JOIN services s ON s.id "
        "= n.service_id "
        f"WHERE n.uuid = '{node}'",
    ) == [("cmp-c1-02", "cmp-c1-02", 0)]
    assert instance in realcloud.rows(cell, live.format("cmp-c1-02"))
    assert realcloud.rows(cell, live.format("cmp-c1-01")) == []
    code, _, err = move(config, node, "cmp-c1-03")
    assert (code, err) == (
        255,
        "The nova-compute service on cmp-c1-02 has the node and is not yet forced down\n",
    )


@pytest.mark.parametrize(
    ("prepare", "node", "host", "why"),
    [
        ("", None, "nowhere", "There is no nova-compute service on the host nowhere"),
        (DOWN, None, "cmp-c1-01", "is forced down; it cannot get the node"),
        ("", "no-such-node", "cmp-c1-02", "There is no compute node with the uuid no-such-node"),
        ("", None, "cmp-c1-02", "on cmp-c1-01 has the node and is not yet forced down"),
        (
            DOWN.replace("forced_down = 1", "forced_down = 1, deleted = id"),
            None,
            "cmp-c1-02",
            "does not exist",
        ),
        (DOWN, None, "cmp-c1-02", "instances on the node, where Ironic has one"),
    ],
    ids=[
        "no destination",
        "destination down",
        "no node",
        "source up",
        "source deleted",
        "instances",
    ],
)
def test_what_may_not_move_stays_as_it_is(
    realcloud: RealCloud, config: Path, prepare: str, node: str | None, host: str, why: str
) -> None:
    [(uuid,)] = realcloud.rows(realcloud.cell1, NODE)
    if prepare:
        realcloud.rows(realcloud.cell1, prepare)
    before = realcloud.checksums()
    code, out, err = move(config, node or uuid, host)
    assert (code, out) == (255, "")
    assert why in err
    assert err.count("\n") == 1
    assert realcloud.checksums() == before


def test_both_options_are_needed(config: Path) -> None:
    ended = call("db ironic_compute_node_move --ironic-node-uuid U", config=config)
    assert (ended.code, ended.out) == (2, "")
    assert "--destination-host" in ended.line
