"""``throttle status`` where there is nothing to look at."""

from tests.support.demo_cloud import DemoCloud


def test_a_cloud_without_servers_is_told(cloud: DemoCloud) -> None:
    said = "No cell has its database on a server: there is nothing to look at\n"
    ended = cloud.call("throttle status")
    assert (ended.code, ended.err) == (0, said)
    ended = cloud.call("throttle status -f json")
    assert (ended.code, ended.document, ended.err) == (0, [], said)
