"""``schedule list`` and ``beat``, as far as no store is needed: what is printed, and the exit
code.
"""

import pytest

from tests.support.demo_cloud import DemoCloud

AWAY = "[celery]\nbroker_url = redis://127.0.0.1:1/0"
NIGHTLY = "[schedule]\nenabled = nightly_archive"


def test_entries_that_are_not_enabled_are_listed(cloud: DemoCloud) -> None:
    ended = cloud.call("schedule list")
    assert (ended.code, ended.err) == (0, "")
    assert "| nightly_archive | 0 2 * * * | db archive_deleted_rows --all-cells " in ended.out
    document = cloud.call("schedule list -f json").document
    assert (document["entries"], document["beats"], document["refused"]) == ([], [], [])
    assert set(document["not_enabled"]) == {"nightly_archive", "weekly_purge"}


@pytest.mark.parametrize("line", ["schedule list", "beat"])
def test_a_schedule_that_is_refused(cloud: DemoCloud, line: str) -> None:
    cloud.configure(f"{AWAY}\n[schedule]\nenabled = nope\nnonsense = 1")
    ended = cloud.call(line)
    assert ended.code == (78 if line == "beat" else 255)
    unknown, nope = ended.err.splitlines()
    assert unknown.startswith("The schedule cannot be used: ")
    assert "nonsense" in unknown
    assert (
        nope
        == "The schedule cannot be used: nope: it has no cron: set it in section [schedule_nope]"
    )


def test_a_schedule_that_is_refused_as_a_whole_has_no_table(cloud: DemoCloud) -> None:
    cloud.configure(f"{AWAY}\n[schedule]\nenabled = nightly_archive, weekly_purge, nope")
    ended = cloud.call("schedule list")
    assert (ended.code, ended.out) == (255, "")


def test_a_beat_without_entries_ends(cloud: DemoCloud) -> None:
    cloud.configure(AWAY)
    ended = cloud.call("beat")
    assert (ended.code, ended.out) == (78, "")
    assert (
        ended.err
        == "Nothing is scheduled: name entries in the option enabled of section [schedule]\n"
    )


def test_a_schedule_needs_a_broker(cloud: DemoCloud) -> None:
    cloud.configure(NIGHTLY)
    for line in ("schedule list", "beat"):
        ended = cloud.call(line)
        assert ended.code == (78 if line == "beat" else 255)
        assert ended.err.startswith(
            "There is no schedule without workers: set broker_url in section [celery] (read: "
        )


def test_a_store_that_is_away_is_one_line(cloud: DemoCloud) -> None:
    cloud.configure(f"{AWAY}\n{NIGHTLY}")
    ended = cloud.call("schedule list")
    assert (ended.code, ended.out) == (255, "")
    assert ended.err.startswith("The store of runs cannot be used: ")
