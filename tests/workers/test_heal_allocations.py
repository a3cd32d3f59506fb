"""``placement heal_allocations`` by workers: one total over cells, and services by the
configuration of each worker.
"""

from tests.support.placement import Placement, nova_conf
from tests.workers.fleet import Site

HEAL = "placement heal_allocations --skip-port-allocations"


def test_workers_heal_what_the_process_itself_would(site: Site, placed: Placement) -> None:
    site.config.write_text(site.config.read_text() + nova_conf(placed.url))
    with site.worker() as worker:
        worker.serve()
        assert (
            "Would create allocations of 6 instances and update those of 1."
            in site.call(f"{HEAL} --dry-run").out
        )
        first = site.call(f"{HEAL} --max-count 4 --verbose")
        assert (first.code, first.err) == (1, "")
        assert first.out.endswith("Max count reached. Processed 4 instances.\n")
        second = site.call(f"{HEAL} -f json")
        assert second.code == 0
        assert sum(cell["created"] + cell["updated"] for cell in second.document["cells"]) == 3
        assert site.call(HEAL).code == 4


def test_a_worker_without_placement_says_so(site: Site) -> None:
    with site.worker() as worker:
        worker.serve()
        ended = site.call(HEAL)
    assert ended.code == 255
    assert ended.line.startswith("cell1, cell2, cell3: Placement is not configured: ")
