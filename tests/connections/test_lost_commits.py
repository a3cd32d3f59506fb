"""A commit that was done, and whose answer is lost: what it changed is counted, and not done again."""

from tests.connections.cut_cloud import CutCloud
from tests.connections.test_every_statement import API, CELL, IN_CELL, Case, Uncut, cut_cloud, shown
from tests.support.mysql_relay import Cut

__all__ = ["cut_cloud"]
USERLESS = (API, "UPDATE instance_mappings SET user_id = NULL")
CASE = Case(
    "db online_data_migrations", 0, (*((CELL, one) for one in IN_CELL), USERLESS), adds_rows=True
)


def test_online_data_migrations_count_what_each_commit_did(cut_cloud: CutCloud) -> None:
    uncut = Uncut.observe(cut_cloud, CASE, CASE.line)
    commits = [number for number, one in enumerate(cut_cloud.relay.said) if one.text == "COMMIT"]
    assert len(commits) > 10
    for number in commits:
        cut_cloud.prepare(CASE.prepare)
        ended = cut_cloud.run(CASE.line, number, Cut.AFTER)
        assert cut_cloud.relay.has_cut
        assert (ended.code, shown(CASE, ended)) == (uncut.ended.code, shown(CASE, uncut.ended)), (
            number
        )
