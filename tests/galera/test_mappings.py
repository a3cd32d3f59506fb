"""Mapping on a cluster that limits its write sets: batches become smaller until they are taken."""

import pytest

from tests.galera.cluster import Cluster
from tests.support.program import Program
from tests.support.realcloud import RealCloud

LIMITS = {"wsrep_max_ws_size": 4_096, "wsrep_max_ws_rows": 10}


@pytest.mark.parametrize("variable", LIMITS)
def test_instances_are_mapped_a_few_at_once_where_a_write_set_is_limited(
    cluster: Cluster, realcloud: RealCloud, program: Program, variable: str
) -> None:
    realcloud.rows(realcloud.api, "DELETE FROM instance_mappings")
    [(wanted,)] = realcloud.rows(
        realcloud.cell1, "SELECT COUNT(*) FROM instances WHERE NOT COALESCE(hidden, 0)"
    )
    assert wanted > LIMITS["wsrep_max_ws_rows"]
    cluster.limit(variable, LIMITS[variable])
    ended = program.run("cell_v2", "map_instances", "--cell_uuid", realcloud.uuids["cell1"])
    assert ended.code == 0, ended
    assert realcloud.rows(realcloud.api, "SELECT COUNT(*) FROM instance_mappings") == [(wanted,)]
